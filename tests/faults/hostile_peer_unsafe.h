// SPDX-License-Identifier: Apache-2.0
//
// HostilePeer: a process with everything that a host is given (both regions, its end of the socket
// for files), which misuses it. It ends by SIGKILL only.
#ifndef BULKHEAD_TESTS_FAULTS_HOSTILE_PEER_UNSAFE_H_
#define BULKHEAD_TESTS_FAULTS_HOSTILE_PEER_UNSAFE_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

enum class Hostility {
  kScribble,       // random bytes over the whole reply region, repeatedly
  kScribbleBells,  // the same, and every futex word woken all the time
  kAnswerTwice,    // answers each call, then once more with the other verdict
  kReplay,         // answers, and stores tickets of earlier calls in every slot
  kSilent,         // takes calls and never answers
  kReopen,         // attaches, answers some calls, detaches, attaches again
  kGarbage,        // the right ticket with fields that no host may send
  kMutate,         // word after word at random places, at full speed, many of them almost valid
};
inline constexpr Hostility kHostilities[] = {
    Hostility::kScribble, Hostility::kScribbleBells, Hostility::kAnswerTwice, Hostility::kReplay,
    Hostility::kSilent,   Hostility::kReopen,        Hostility::kGarbage,     Hostility::kMutate};
const char* Name(Hostility hostility);

class HostilePeer {
 public:
  // Forks. `shim_files` gets the shim's end of the socket for files.
  static absl::StatusOr<HostilePeer> Start(ChannelDescriptors regions, uint32_t generation,
                                           const bh_geometry& geometry, Hostility hostility,
                                           uint64_t seed, UniqueFd* shim_files);
  HostilePeer(HostilePeer&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  ~HostilePeer();

  // Kills and reaps it. False when it had ended before, by itself: then the run tested nothing.
  bool End();

 private:
  explicit HostilePeer(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_FAULTS_HOSTILE_PEER_UNSAFE_H_
