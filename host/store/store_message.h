// SPDX-License-Identifier: Apache-2.0
//
// The messages between a service and its store, datagrams of a Unix seqpacket socket. Both are of
// one user and trust each other; a version says whether they understand each other.
//
//   service                        store
//   kTake                    ->    kItem for each item, then kEnd
//   kPut, kRemove, kForget   ->    no answer
//   kLook                    ->    kState, and the end: this connection is no service's
//                                  kBusy: another service is connected; then it closes
#ifndef BULKHEAD_HOST_STORE_STORE_MESSAGE_H_
#define BULKHEAD_HOST_STORE_STORE_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

struct StoreMessage {
  static constexpr uint32_t kVersion = 1;
  static constexpr size_t kNameBytesMax = 255;
  static constexpr size_t kBytesMax = 64 << 10;
  static constexpr size_t kDescriptorsMax = 32;

  enum class Kind : uint32_t { kTake, kPut, kRemove, kForget, kItem, kEnd, kBusy, kLook, kState };

  Kind kind = Kind::kTake;
  uint64_t number = 0;  // kEnd: CLOCK_MONOTONIC when the service before went; 0: there was none.
                        // kBusy: the other's process id. kState: as kEnd; 0: a service is there
  std::string name;
  std::string bytes;
  std::vector<UniqueFd> descriptors;  // of a message that was received
};

// Waits for room. Unavailable: the other end is gone; DeadlineExceeded. The descriptors stay the
// caller's.
absl::Status SendStoreMessage(int socket, const StoreMessage& message,
                              absl::Span<const int> descriptors, uint64_t until_ns);
// Waits for the next. Unavailable: the other end is gone; DeadlineExceeded; FailedPrecondition:
// it is of another version.
absl::StatusOr<StoreMessage> ReceiveStoreMessage(int socket, uint64_t until_ns);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_STORE_STORE_MESSAGE_H_
