// SPDX-License-Identifier: Apache-2.0
#include "host/process/call_table.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>

namespace bulkhead {
namespace {

enum Phase : uint64_t {
  kIdle = 0,
  kInCallback = 1,
  kCompleting = 2,  // by another thread, during the callback: the answer is being copied
  kRecorded = 3,
  kKept = 4,
};
constexpr int kPhaseBits = 3;
constexpr uint64_t kPhaseMask = (1u << kPhaseBits) - 1;
constexpr int kIndexBits = 16;

static_assert(sizeof(uintptr_t) == sizeof(uint64_t));  // a handle is a number in a pointer
static_assert(BH_LANES_MAX * BH_SLOTS_PER_LANE_MAX + BH_WORKERS_MAX < (1u << kIndexBits));

// An empty file can't be mapped; it gets an address all the same.
constexpr char kEmpty = 0;

uint64_t Tag(uint64_t word) { return word >> kPhaseBits; }
uint64_t PhaseOf(uint64_t word) { return word & kPhaseMask; }
uint64_t Word(uint64_t tag, Phase phase) { return tag << kPhaseBits | phase; }

// Never looked through: a number in a pointer's clothes, so that a driver can't do so either.
const bulkhead_call* Handle(uint64_t tag, uint32_t index) {
  return reinterpret_cast<const bulkhead_call*>(tag << kIndexBits | (index + 1));
}

}  // namespace

CallTable::CallTable(uint32_t workers, uint32_t kept_max)
    : kept_max_(kept_max), entries_(workers + kept_max) {
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    entries_[i].index = i;
    if (i >= workers) spare_.push_back(i);
  }
}

CallTable::~CallTable() {
  for (Entry& entry : entries_) Release(entry);
}

// SUBTLE: the relaxed loads and stores of an entry's word are of the worker that has the entry: no
// other thread changes the word from idle, or changes its tag. Deadline() may read the entry of a
// later call: the deadline is stored with release behind the idle word of the call before, so that
// a reader of the new deadline also sees that its own call has ended.
const bulkhead_call* CallTable::Open(Entry& entry, uint64_t deadline_ns) {
  const uint64_t tag = Tag(entry.word.load(std::memory_order_relaxed)) + 1;
  entry.deadline_ns.store(deadline_ns, std::memory_order_release);
  entry.word.store(Word(tag, kInCallback), std::memory_order_release);
  return Handle(tag, entry.index);
}

bool CallTable::Close(Entry& entry) {
  uint64_t word = entry.word.load(std::memory_order_relaxed);
  const uint64_t idle = Word(Tag(word), kIdle);
  bool alone = true;
  if (kept_max_ == 0) {
    entry.word.store(idle, std::memory_order_relaxed);  // Complete() touches no entry
  } else {
    uint64_t expected = Word(Tag(word), kInCallback);
    alone = entry.word.compare_exchange_strong(expected, idle, std::memory_order_acq_rel);
    if (!alone) {
      // The other thread is a few instructions away from being done.
      while (PhaseOf(entry.word.load(std::memory_order_acquire)) != kRecorded) {
        std::this_thread::yield();
      }
      entry.word.store(idle, std::memory_order_relaxed);
    }
  }
  Release(entry);
  return alone;
}

bool CallTable::Keep(Entry** mine) {
  Entry& entry = **mine;
  const uint64_t tag = Tag(entry.word.load(std::memory_order_relaxed));
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return kept_ < kept_max_ || PhaseOf(entry.word.load(std::memory_order_acquire)) == kRecorded;
  });
  uint64_t expected = Word(tag, kInCallback);
  // Under the lock: a Complete that finds the call kept waits for it before it gives the entry
  // back.
  if (kept_ < kept_max_ &&
      entry.word.compare_exchange_strong(expected, Word(tag, kKept), std::memory_order_acq_rel)) {
    ++kept_;
    *mine = &entries_[spare_.back()];
    spare_.pop_back();
    return true;
  }
  lock.unlock();
  while (PhaseOf(entry.word.load(std::memory_order_acquire)) != kRecorded) {
    std::this_thread::yield();
  }
  return false;
}

CallTable::Entry* CallTable::Find(const bulkhead_call* call, uint64_t* tag) {
  const auto bits = reinterpret_cast<uint64_t>(call);
  const uint64_t number = bits & ((1u << kIndexBits) - 1);
  if (number == 0 || number > entries_.size()) return nullptr;
  *tag = bits >> kIndexBits;
  return &entries_[number - 1];
}

CallTable::Completion CallTable::Complete(
    const bulkhead_call* call, const bulkhead_answer& given,
    const std::function<void(TakenCall&, const bulkhead_answer&)>& send) {
  if (kept_max_ == 0) return Completion::kNoneIsKept;
  // An older driver's ends before the reason.
  if (given.size < offsetof(bulkhead_answer, reason_length) || given.verdict == 0 ||
      given.verdict == BULKHEAD_PENDING) {
    return Completion::kNotAnAnswer;
  }
  bulkhead_answer answer = {};
  std::memcpy(&answer, &given, std::min<size_t>(given.size, sizeof(answer)));
  uint64_t tag = 0;
  Entry* entry = Find(call, &tag);
  if (entry == nullptr) return Completion::kNotKept;
  for (;;) {
    uint64_t word = Word(tag, kKept);
    if (entry->word.compare_exchange_strong(word, Word(tag, kIdle), std::memory_order_acq_rel)) {
      send(entry->taken, answer);
      Release(*entry);
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        --kept_;
        spare_.push_back(entry->index);
      }
      changed_.notify_all();
      return Completion::kSent;
    }
    if (word != Word(tag, kInCallback)) return Completion::kNotKept;
    if (entry->word.compare_exchange_strong(word, Word(tag, kCompleting),
                                            std::memory_order_acq_rel)) {
      entry->answer = answer;
      entry->word.store(Word(tag, kRecorded), std::memory_order_release);
      { const std::lock_guard<std::mutex> lock(mutex_); }  // its worker may be about to wait
      changed_.notify_all();
      return Completion::kSent;
    }
    if (word != Word(tag, kKept)) return Completion::kNotKept;
  }
}

uint64_t CallTable::Deadline(const bulkhead_call* call) const {
  uint64_t tag = 0;
  const Entry* entry = const_cast<CallTable*>(this)->Find(call, &tag);
  if (entry == nullptr) return 0;
  const uint64_t deadline_ns = entry->deadline_ns.load(std::memory_order_acquire);
  const uint64_t word = entry->word.load(std::memory_order_acquire);
  return Tag(word) == tag && PhaseOf(word) != kIdle ? deadline_ns : 0;
}

const void* CallTable::Map(const bulkhead_call* call, size_t* length) {
  uint64_t tag = 0;
  Entry* entry = Find(call, &tag);
  if (entry == nullptr) {
    errno = EINVAL;
    return nullptr;
  }
  const std::lock_guard<std::mutex> lock(entry->mutex);
  const uint64_t word = entry->word.load(std::memory_order_acquire);
  if (Tag(word) != tag || PhaseOf(word) == kIdle) {
    errno = EINVAL;
    return nullptr;
  }
  if (entry->mapped == nullptr) {
    struct stat status = {};
    if (fstat(entry->file.descriptor, &status) != 0) return nullptr;
    const auto bytes = static_cast<size_t>(status.st_size);
    if (bytes == 0) {
      *length = 0;
      return &kEmpty;
    }
    void* mapped = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, entry->file.descriptor, 0);
    if (mapped == MAP_FAILED) return nullptr;
    entry->mapped = mapped;
    entry->mapped_bytes = bytes;
  }
  *length = entry->mapped_bytes;
  return entry->mapped;
}

void CallTable::Release(Entry& entry) {
  // A driver that may keep no call uses a handle in its callback alone.
  std::unique_lock<std::mutex> lock(entry.mutex, std::defer_lock);
  if (kept_max_ != 0) lock.lock();
  if (entry.mapped != nullptr) munmap(entry.mapped, entry.mapped_bytes);
  entry.mapped = nullptr;
  entry.descriptor.reset();
}

void CallTable::WaitUntilNoneIsKept() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return kept_ == 0; });
}

uint32_t CallTable::kept() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return kept_;
}

}  // namespace bulkhead
