// SPDX-License-Identifier: Apache-2.0
//
// The notification ring, each side with anything that the other may write.
//
//   first byte even   a ring full of the input: the reader refuses it, or its copies stay inside
//   first byte odd    a host that reports any read position while notifications occur: each is
//                     counted once as delivered, unread or lost, and no entry counts as read that
//                     was not written
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "ipc/abi/notification.h"
#include "ipc/futex_transport.h"
#include "ipc/host_transport.h"
#include "ipc/notification_reader.h"
#include "ipc/shared_memory.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {
namespace {

constexpr uint32_t kEntries = BH_NOTIFICATION_ENTRIES_MIN;
const size_t kRingBytes = bh_notification_region_bytes(kEntries);

void Require(bool condition) {
  if (!condition) std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t bytes) : data_(data), bytes_(bytes) {}
  size_t left() const { return bytes_; }
  // Zeroes when the input is used up.
  template <typename T>
  T Take() {
    T value = {};
    CopyTo(&value, sizeof(value));
    return value;
  }
  void CopyTo(void* to, size_t room) {
    const size_t count = std::min(room, bytes_);
    if (count != 0) std::memcpy(to, data_, count);
    data_ += count;
    bytes_ -= count;
  }

 private:
  const uint8_t* data_;
  size_t bytes_;
};

// ---- The reader, with anything that a shim may have written ----

// A memfd sealed as shims do, and this process's mapping of it, which stays writable.
class Ring {
 public:
  explicit Ring(size_t bytes, bool sealed = true) {
    fd_.reset(memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    Require(ftruncate(fd_.get(), static_cast<off_t>(bytes)) == 0);
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    Require(data != MAP_FAILED);
    data_ = static_cast<uint8_t*>(data);
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
    if (sealed) Require(fcntl(fd_.get(), F_ADD_SEALS, seals) == 0);
  }
  uint8_t* data() const { return data_; }
  UniqueFd Descriptor() const { return UniqueFd(fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0)); }
  bh_notification_header* header() const {
    return reinterpret_cast<bh_notification_header*>(data_);
  }
  bh_notification_entry* entry(uint64_t position) const {
    return reinterpret_cast<bh_notification_entry*>(
        data_ + bh_notification_entry_offset(kEntries, position));
  }

 private:
  UniqueFd fd_;
  uint8_t* data_ = nullptr;
};

// A sleep during which entries are written.
class Sleep final : public HostTransport {
 public:
  template <typename Happen>
  explicit Sleep(const Happen& happen) : happen_(happen) {}
  FutexResult WaitForCall(uint32_t, uint32_t*, uint32_t, uint64_t) override { return happen_(); }
  void WakeWorker(uint32_t, uint32_t*) override {}
  void WakeCaller(uint32_t, uint32_t*) override {}
  absl::StatusOr<UniqueFd> ReceiveFile(uint32_t, uint64_t) override {
    return absl::NotFoundError("none");
  }
  uint64_t stray_files() const override { return 0; }
  absl::StatusOr<SharedMemory> MapNotifications(UniqueFd region) override {
    return MapSealedNotifications(std::move(region));
  }

 private:
  const std::function<FutexResult()> happen_;
};

// The entries that an input fills, in its order. Their neighbours in the ring are the next ones.
void Fill(Input& input, const Ring& ring) {
  while (input.left() != 0) {
    const auto where = input.Take<uint8_t>();
    bh_notification_entry* entry = ring.entry(where);
    entry->published = input.Take<uint64_t>();
    entry->text_bytes = input.Take<uint16_t>();
    entry->text2_bytes = input.Take<uint16_t>();
    if (where >= 2 * kEntries) break;  // the others come during a sleep
  }
}

void AttachTo(const Ring& ring) {
  bh_notification_reader words = {};
  Sleep sleep([] { return FutexResult::kTimedOut; });
  Require(!NotificationReader::Attach(ring.Descriptor(), &words, &sleep).ok());
}

void ReadWhateverIsThere(Input input) {
  static const Ring ring(kRingBytes);
  static const Ring no_ring(4096), no_power_of_two(bh_notification_region_bytes(65)),
      odd(kRingBytes + 1), small(100), few(bh_notification_region_bytes(32)),
      large(bh_notification_region_bytes(65537)), unsealed(kRingBytes, false);
  static const Ring* const kWrong[] = {&no_ring, &no_power_of_two, &odd,     &small,
                                       &few,     &large,           &unsealed};
  const auto choice = input.Take<uint8_t>();
  if (choice >= 128) return AttachTo(*kWrong[choice % std::size(kWrong)]);

  std::memset(ring.data(), 0, kRingBytes);
  *ring.header() = {.magic = BH_NOTIFICATION_MAGIC,
                    .version = BH_NOTIFICATION_VERSION,
                    .entries = kEntries,
                    .entry_bytes = BH_NOTIFICATION_ENTRY_BYTES,
                    .bytes = kRingBytes};
  // Half of them with a valid header.
  if (choice % 2 == 0) input.CopyTo(ring.header(), offsetof(bh_notification_header, reserved1));
  ring.header()->written = input.Take<uint64_t>();
  ring.header()->accepted = input.Take<uint64_t>();
  bh_notification_reader words = {.read = input.Take<uint64_t>()};
  Fill(input, ring);

  NotificationReader* stop = nullptr;
  int sleeps = 0;
  Sleep sleep([&] {
    Require(++sleeps < 1000);
    if (input.left() == 0) {
      if (choice % 4 == 1) stop->Stop();
      return FutexResult::kTimedOut;
    }
    Fill(input, ring);
    return FutexResult::kLookAgain;
  });
  auto reader = NotificationReader::Attach(ring.Descriptor(), &words, &sleep);
  if (!reader.ok()) {
    Require(absl::IsInvalidArgument(reader.status()) && !reader.status().message().empty());
    return;
  }
  // The reader continues at an allowed position: the word's, when that is possible.
  const bh_notification_header header = *ring.header();
  Require(words.read - header.accepted <= header.written - header.accepted);
  Require(words.sleeping == 0);
  stop = reader->get();
  // On the heap, one by one: ASan reports a text that reaches beyond its entry.
  std::vector<Notification> batch(4);
  for (uint64_t until_ns : {uint64_t{0}, uint64_t{1}}) {
    const size_t count = (*reader)->Read(absl::MakeSpan(batch), until_ns);
    Require(count <= batch.size());
    size_t sum = 0;
    for (size_t i = 0; i < count; ++i) {
      const Notification& notification = batch[i];
      const size_t texts = notification.text().size() + notification.text2().size();
      Require(texts <= BH_NOTIFICATION_TEXT_BYTES);
      for (const char c : notification.text()) sum += static_cast<uint8_t>(c);
      for (const char c : notification.text2()) sum += static_cast<uint8_t>(c);
    }
    Require(sum == 0);  // no text was written: the bytes read are those of the ring
    if (count != 0) {
      (*reader)->Release(batch[count - 1]);
      Require(words.read == batch[count - 1].entry.published);
    }
  }
  Require(words.sleeping == 0);
}

// ---- The shim, with anything that a host may report ----

class Shim {
 public:
  Shim() {
    platform_.coarse_ns = platform_.now_ns = [](void*) -> uint64_t { return 1; };
    platform_.wait = [](void*, uint32_t*, uint32_t, int, uint64_t) { return 0; };
    platform_.wake = [](void*, uint32_t* word, int shared, int) {
      Require(shared == 0 || *word == 0);  // no reader is woken only to sleep again
    };
    platform_.send_descriptor = [](void*, void*, uint32_t, uint64_t, const bh_call*) { return 0; };
    platform_.event = [](void*, void*, uint32_t, uint32_t, uint32_t, uint64_t) {};
    platform_.cpu = [](void*) -> uint32_t { return 0; };
    bh_channel_config config;
    bh_channel_config_default(&config);
    config.spec.geometry = {.lanes = 1, .slots_per_lane = 1, .call_chunks = 0, .reply_chunks = 0};
    config.spec.cache_entries = 0;
    config.spec.notify_entries = kEntries;
    config.notify_region = ring_ = Zeroed(kRingBytes);
    reply_ = Zeroed(bh_reply_region_bytes(&config.spec.geometry));
    channel_ = bh_channel_init(Zeroed(bh_channel_private_bytes(&config)), &config, &platform_,
                               Zeroed(bh_call_region_bytes(&config.spec.geometry)), reply_);
    Require(channel_ != nullptr);
    spec_.notifications = bh_set_of(BH_NOTIFY_PROCESS_CREATED);
    bh_channel_set_wanted(channel_, &spec_);
  }

  // Writes any word that a host may write.
  void SayRead(uint64_t read) { words()->read = read; }
  void SaySleeping(uint32_t sleeping) { words()->sleeping = sleeping; }
  // Relative to the reader's position, or to the last position that was accepted.
  void SayReadTo(int distance) {
    words()->read = accepted() + static_cast<uint64_t>(int64_t{distance});
  }
  void Happen(uint32_t times) {
    bh_notification notification = {};
    notification.kind = BH_NOTIFY_PROCESS_CREATED;
    for (uint32_t i = 0; i < times; ++i, ++happened_) bh_notify(channel_, &notification);
  }
  void Begin() {
    spec_.generation = ++generation_;
    Require(bh_channel_begin_generation(channel_, &spec_) == 0);
  }
  void End() { (void)bh_channel_end_generation(channel_, generation_, BH_END_KILLED); }

  void Check() {
    const uint64_t before = accepted(), said = words()->read;
    bh_statistics statistics = {};
    bh_channel_statistics(channel_, &statistics);
    uint64_t lost = 0;
    for (const uint64_t one : statistics.lost) lost += one;
    Require(statistics.notified == happened_ && statistics.unread <= kEntries);
    Require(written() == happened_ - lost && written() - accepted() == statistics.unread);
    Require(accepted() == before || accepted() == said);
    Require(accepted() >= before && accepted() <= written());
  }

 private:
  uint8_t* Zeroed(size_t bytes) {
    const size_t aligned = (bytes + 63) / 64 * 64;
    memory_.emplace_back(std::aligned_alloc(64, aligned), std::free);
    std::memset(memory_.back().get(), 0, aligned);
    return static_cast<uint8_t*>(memory_.back().get());
  }
  bh_notification_reader* words() const {
    return reinterpret_cast<bh_notification_reader*>(reply_ + BH_NOTIFICATION_READER_OFFSET);
  }
  const bh_notification_header* header() const {
    return reinterpret_cast<const bh_notification_header*>(ring_);
  }
  uint64_t written() const { return header()->written; }
  uint64_t accepted() const { return header()->accepted; }

  std::vector<std::unique_ptr<void, decltype(&std::free)>> memory_;
  bh_platform platform_ = {};
  uint8_t* ring_ = nullptr;
  uint8_t* reply_ = nullptr;
  bh_channel* channel_ = nullptr;
  uint64_t happened_ = 0;
  bh_generation_spec spec_ = {};
  uint32_t generation_ = 0;
};

void SayAnythingWhileThingsHappen(Input input) {
  Shim shim;
  for (int step = 0; step < 64 && input.left() != 0; ++step) {
    switch (input.Take<uint8_t>() % 6) {
      case 0:
        shim.SayRead(input.Take<uint64_t>());
        break;
      case 1:
        shim.SayReadTo(input.Take<int8_t>());
        break;
      case 2:
        shim.SaySleeping(input.Take<uint8_t>());
        break;
      case 3:
        shim.Happen(input.Take<uint8_t>());
        break;
      case 4:
        shim.Begin();
        break;
      case 5:
        shim.End();
        break;
    }
    shim.Check();
  }
}

}  // namespace
}  // namespace bulkhead

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  if (bytes == 0) return 0;
  const bulkhead::Input rest(data + 1, bytes - 1);
  if (data[0] % 2 == 0) {
    bulkhead::ReadWhateverIsThere(rest);
  } else {
    bulkhead::SayAnythingWhileThingsHappen(rest);
  }
  return 0;
}
