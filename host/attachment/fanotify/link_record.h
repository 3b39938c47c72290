// SPDX-License-Identifier: Apache-2.0
//
// LinkRecord, ChannelRecord: what a RemoteShimLink leaves in the DescriptorStore for the next one.
// Structures of the ABI travel as they are in memory: a service of another ABI does not go on with
// them.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_LINK_RECORD_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_LINK_RECORD_H_

#include <sys/types.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "ipc/abi/channel_spec.h"
#include "ipc/abi/end.h"
#include "ipc/abi/generation.h"

namespace bulkhead {

// Descriptors: the control socket, the keeper's.
struct LinkRecord {
  pid_t worker_pid;  // 0: none has said hello
  uint32_t incarnation;
};

// Descriptors: the call region, the reply region; where a generation serves, its socket for files.
struct ChannelRecord {
  bh_channel_spec spec;
  char driver[64];
  bool quarantined;
  bool draining;
  bool made_again;
  uint32_t generation;
  uint32_t highest_generation;
  uint32_t ended;
  bh_end end;
  bh_generation_spec begun;
};

template <typename Record>
std::string BytesOf(const Record& record) {
  static_assert(std::is_trivially_copyable_v<Record>);
  return std::string(reinterpret_cast<const char*>(&record), sizeof(record));
}

template <typename Record>
bool FromBytes(const std::string& bytes, Record* record) {
  static_assert(std::is_trivially_copyable_v<Record>);
  if (bytes.size() != sizeof(*record)) return false;
  std::memcpy(record, bytes.data(), sizeof(*record));
  return true;
}

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_LINK_RECORD_H_
