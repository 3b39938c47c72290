// SPDX-License-Identifier: Apache-2.0
//
// FileRequest: the facts about a file that is about to be opened, executed or read, and their
// conversion to a call of the core. Completion: the end of that call.
#ifndef BULKHEAD_SHIM_EMBEDDED_FILE_REQUEST_H_
#define BULKHEAD_SHIM_EMBEDDED_FILE_REQUEST_H_

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/abi/callbacks.h"
#include "ipc/unique_fd.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {

struct FileRequest {
  uint32_t callback = BH_CALLBACK_FILE_OPEN;  // enum bh_callback, of class file
  uint32_t pid = 0;                           // 0: the process of the shim itself
  uint32_t uid = UINT32_MAX;
  uint32_t gid = UINT32_MAX;
  uint32_t open_flags = 0;
  // The object (invariant 9). DescribeObject() fills them from a descriptor.
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t change = 0;
  uint64_t size = 0;
  bool audited = false;      // no denial of this call is enforced
  uint32_t owner = 0;        // whose file it is: user id + 1; 0: not known
  std::string_view path;     // for information only; must live as long as the call
  int descriptor = -1;       // the file, for the host to read; stays owned by the caller
  uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: the shim's default from now
};

// Fills device, inode, change, size and owner from the file behind `descriptor`, and sets
// `descriptor` in the request.
absl::Status DescribeObject(int descriptor, FileRequest& request);

// Opens the regular file at request.path for reading and describes it. The descriptor is in the
// request too and must outlive the call. NotFound, PermissionDenied …; FailedPrecondition when it
// is not a regular file (opened without blocking: a FIFO can't hang this).
absl::StatusOr<UniqueFd> OpenAndDescribe(FileRequest& request);

struct Completion {
  uint32_t verdict = BH_VERDICT_DENY;       // enum bh_verdict
  int error = EPERM;                        // of a denial: what the caller is to see as errno
  uint32_t outcome = BH_OUTCOME_CANCELLED;  // enum bh_outcome
  uint32_t reason = BH_REASON_ABSENT;       // enum bh_reason, when outcome is BH_OUTCOME_POLICY
  uint32_t issues = 0;                      // number of hosts that it was given to
  uint64_t ended_ns = 0;                    // CLOCK_MONOTONIC; up to 10 ms early
  bool cacheable = false;  // an answered call's: the driver allows it to be remembered
  // Why the driver decided so, when it said that: its own bytes.
  std::string why;

  bool allowed() const { return verdict == BH_VERDICT_ALLOW; }
};

// Fills the input of `call`, which refers to the path and the descriptor without copying them.
void FillCall(const FileRequest& request, uint64_t deadline_ns, bh_call& call);

// REQUIRES: the call has ended.
Completion CompletionOf(const bh_call& call);

// "answered", "by policy: hung" …, for operators.
std::string OutcomeText(const Completion& completion);

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_FILE_REQUEST_H_
