// SPDX-License-Identifier: Apache-2.0
//
// HostRecord: what a supervisor leaves of a driver for the next one, so that this goes on with its
// channel and with the host that serves. It travels as the bytes of an item of the DescriptorStore,
// whose descriptors are the host's.
#ifndef BULKHEAD_HOST_SUPERVISOR_HOST_RECORD_H_
#define BULKHEAD_HOST_SUPERVISOR_HOST_RECORD_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "host/supervisor/release.h"
#include "ipc/control/host_protocol.h"
#include "ipc/shim_link.h"

namespace bulkhead {

struct ReleaseRecord {
  ReleaseId id = 0;
  std::string content_folder;
  std::string content_source;
  std::string options;
};

struct HostRecord {
  // What its host was started with, but for the content: a host of another package, or with other
  // options, is not gone on with.
  std::string package;

  ChannelId channel = 0;
  uint32_t newest_generation = 0;
  uid_t user = 0;
  std::string user_lacks;
  ReleaseId newest_release = 0;
  ReleaseRecord good;
  uint64_t restarts = 0;
  uint64_t start_failures = 0;

  // The host that serves; generation 0: none does.
  uint32_t generation = 0;
  pid_t pid = -1;
  std::string group, group_lacks, processes_lack;
  ReleaseRecord running;
  bh_generation_spec wanted = {};
  std::string driver_version;
  SandboxFields sandbox;
  bool has_checkpoint = false;
};

// The descriptors of an item with a host that serves, in their order.
enum HostDescriptor : size_t {
  kHostPidfd,
  kHostControl,
  kHostFiles,
  kHostLifeLine,
  kHostLog,
  kHostErrorOutput,
  kHostDescriptors,
  kHostCheckpoint = kHostDescriptors,  // where it has one
};

std::string WriteHostRecord(const HostRecord& record);
// InvalidArgument: of a release that writes it otherwise, or whose channels are others.
absl::StatusOr<HostRecord> ReadHostRecord(const std::string& text);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_HOST_RECORD_H_
