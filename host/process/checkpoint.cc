// SPDX-License-Identifier: Apache-2.0
#include "host/process/checkpoint.h"

#include <atomic>
#include <cstring>

namespace bulkhead {

Checkpoint::Checkpoint(std::span<std::byte> memory) : memory_(memory) {
  const size_t half = memory.size() / 2 / alignof(Header) * alignof(Header);
  if (half > sizeof(Header)) capacity_ = half - sizeof(Header);
}

// FNV-1a. It distinguishes a torn record from a whole one; it does not protect against a driver
// that forges its own record.
uint64_t Checkpoint::Checksum(uint64_t sequence, std::span<const std::byte> bytes) {
  uint64_t sum = 0xcbf29ce484222325u;
  const auto add = [&sum](uint8_t byte) { sum = (sum ^ byte) * 0x100000001b3u; };
  for (int shift = 0; shift < 64; shift += 8) add(static_cast<uint8_t>(sequence >> shift));
  for (int shift = 0; shift < 64; shift += 8) add(static_cast<uint8_t>(bytes.size() >> shift));
  for (const std::byte byte : bytes) add(static_cast<uint8_t>(byte));
  return sum;
}

Checkpoint::Copy Checkpoint::Read(int which) const {
  Copy copy = {};
  copy.at = memory_.data() + (which == 0 ? 0 : sizeof(Header) + capacity_);
  std::memcpy(&copy.header, copy.at, sizeof(copy.header));
  copy.valid = copy.header.sequence != 0 && copy.header.length <= capacity_ &&
               copy.header.checksum ==
                   Checksum(copy.header.sequence, {copy.at + sizeof(Header), copy.header.length});
  return copy;
}

bool Checkpoint::Save(std::span<const std::byte> record) {
  if (capacity_ == 0 || record.size() > capacity_) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  const Copy copies[2] = {Read(0), Read(1)};
  uint64_t newest = 0;
  int older = 0;
  for (int i = 0; i < 2; ++i) {
    if (copies[i].valid && copies[i].header.sequence > newest) {
      newest = copies[i].header.sequence;
      older = 1 - i;
    }
  }
  const Header header = {newest + 1, record.size(), Checksum(newest + 1, record)};
  if (!record.empty()) std::memcpy(copies[older].at + sizeof(Header), record.data(), record.size());
  // A kill stops the process between two instructions, and stores of one thread stay in order for
  // it: only the compiler could move the header up. A header without its bytes fails its checksum
  // anyway.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(copies[older].at, &header, sizeof(header));
  return true;
}

long Checkpoint::Load(std::span<std::byte> record) const {
  if (capacity_ == 0) return 0;
  const std::lock_guard<std::mutex> lock(mutex_);
  const Copy first = Read(0);
  const Copy second = Read(1);
  const Copy& best =
      !first.valid || (second.valid && second.header.sequence > first.header.sequence) ? second
                                                                                       : first;
  if (!best.valid) return 0;
  if (best.header.length > record.size()) return -1;
  if (best.header.length != 0) {
    std::memcpy(record.data(), best.at + sizeof(Header), best.header.length);
  }
  return static_cast<long>(best.header.length);
}

}  // namespace bulkhead
