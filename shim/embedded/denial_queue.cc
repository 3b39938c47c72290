// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/denial_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// The lines up to "Uid:" are 300 bytes.
constexpr size_t kStatusBytes = 1024;
constexpr size_t kPathBytesMax = 4096;

size_t ReadSome(const char* path, char* to, size_t bytes) {
  const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return 0;
  const ssize_t got = read(file.get(), to, bytes);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

// The end of what the link says, when it is too long.
template <size_t kBytes>
void ReadLink(const char* link, char (&to)[kBytes]) {
  char target[kPathBytesMax];
  const ssize_t length = readlink(link, target, sizeof(target));
  if (length <= 0) return;
  const size_t bytes = std::min(static_cast<size_t>(length), kBytes);
  std::memcpy(to, target + (static_cast<size_t>(length) - bytes), bytes);
}

// The second number of the line "Uid:": the effective user.
void ReadUser(const char* path, uint32_t& uid) {
  char text[kStatusBytes];
  const size_t bytes = ReadSome(path, text, sizeof(text) - 1);
  text[bytes] = '\0';
  // A process chooses its name, in which the kernel writes no line's end.
  const size_t line = std::string_view(text, bytes).find("\nUid:\t");
  if (line == std::string_view::npos) return;
  char* end = nullptr;
  (void)std::strtoul(text + line + std::strlen("\nUid:\t"), &end, 10);
  uid = static_cast<uint32_t>(std::strtoul(end, nullptr, 10));
}

void AddFacts(const bh_call& call, bh_denial& denial) {
  char path[48];
  if (denial.path[0] == '\0' && call.descriptor >= 0) {
    std::snprintf(path, sizeof(path), "/proc/self/fd/%d", call.descriptor);
    ReadLink(path, denial.path);
  }
  if (denial.pid == 0) return;  // the application's own
  std::snprintf(path, sizeof(path), "/proc/%u/comm", denial.pid);
  const size_t bytes = ReadSome(path, denial.comm, sizeof(denial.comm));
  if (bytes != 0 && denial.comm[bytes - 1] == '\n') denial.comm[bytes - 1] = '\0';
  std::snprintf(path, sizeof(path), "/proc/%u/exe", denial.pid);
  ReadLink(path, denial.exe);
  std::snprintf(path, sizeof(path), "/proc/%u/status", denial.pid);
  if (denial.uid == UINT32_MAX) ReadUser(path, denial.uid);
}

}  // namespace

DenialQueue::DenialQueue(std::function<void(uint32_t, const bh_denial&)> deliver)
    : deliver_(std::move(deliver)), thread_([this] { Run(); }) {}

DenialQueue::~DenialQueue() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

bool DenialQueue::Post(uint32_t channel, const bh_call& call, const bh_denial_cause& cause) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (taken_ == kCapacity) return false;
    ++taken_;
  }
  Entry entry = {.channel = channel, .denial = {}};
  bh_denial_fill(&entry.denial, &call, &cause);
  AddFacts(call, entry.denial);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ring_[(first_ + count_) % kCapacity] = entry;
    ++count_;
  }
  posted_.notify_one();
  return true;
}

void DenialQueue::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    posted_.wait(lock, [this] { return count_ > 0 || stop_; });
    if (count_ == 0) return;
    const Entry entry = ring_[first_];
    first_ = (first_ + 1) % kCapacity;
    --count_;
    lock.unlock();
    deliver_(entry.channel, entry.denial);
    lock.lock();
    --taken_;
  }
}

}  // namespace bulkhead
