// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/file_request.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/names.h"

namespace bulkhead {
absl::Status DescribeObject(int descriptor, FileRequest& request) {
  struct stat object;
  if (fstat(descriptor, &object) != 0) {
    return absl::ErrnoToStatus(errno, "cannot stat the file's descriptor");
  }
  request.device = object.st_dev;
  request.inode = object.st_ino;
  request.change = static_cast<uint64_t>(object.st_ctim.tv_sec) * 1'000'000'000u +
                   static_cast<uint64_t>(object.st_ctim.tv_nsec);
  request.size = static_cast<uint64_t>(object.st_size);
  request.owner = object.st_uid + 1;
  request.descriptor = descriptor;
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenAndDescribe(FileRequest& request) {
  const std::string path(request.path);
  UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW));
  if (file.get() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat object;
  if (fstat(file.get(), &object) != 0 || !S_ISREG(object.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  }
  absl::Status status = DescribeObject(file.get(), request);
  if (!status.ok()) return status;
  return file;
}

void FillCall(const FileRequest& request, uint64_t deadline_ns, bh_call& call) {
  bh_file_args args;
  args.pid = request.pid;
  args.uid = request.uid;
  args.gid = request.gid;
  args.open_flags = request.open_flags;
  args.device = request.device;
  args.inode = request.inode;
  args.change = request.change;
  args.size = request.size;
  static_assert(sizeof(args) <= sizeof(call.args));
  std::memcpy(call.args, &args, sizeof(args));
  call.args_bytes = sizeof(args);
  call.callback = request.callback;
  call.payload = request.path.empty() ? nullptr : request.path.data();
  call.payload_bytes = request.path.size();
  call.reply_capacity = 0;
  call.reply_payload = nullptr;
  call.descriptor = request.descriptor;
  call.reissue = bh_callback_reissue(call.callback);
  call.deadline_ns = deadline_ns;
  call.call_id = 0;
  call.opener = 0;
  call.owner = request.owner;
  call.audited = request.audited ? 1 : 0;
}

Completion CompletionOf(const bh_call& call) {
  Completion completion;
  completion.verdict = call.verdict;
  completion.error = call.error != 0 ? static_cast<int>(call.error) : EPERM;
  completion.outcome = call.outcome;
  completion.reason = call.reason;
  completion.issues = call.issues;
  completion.ended_ns = call.ended_ns;
  if (call.outcome == BH_OUTCOME_ANSWERED && call.reply_bytes >= sizeof(bh_verdict_reply)) {
    bh_verdict_reply reply;
    std::memcpy(&reply, call.reply, sizeof(reply));
    completion.cacheable = reply.cacheability == BH_CACHE_OBJECT;
  }
  if (call.outcome == BH_OUTCOME_ANSWERED && call.reply_bytes > sizeof(bh_verdict_reply)) {
    completion.why.assign(reinterpret_cast<const char*>(call.reply) + sizeof(bh_verdict_reply),
                          call.reply_bytes - sizeof(bh_verdict_reply));
  }
  return completion;
}

std::string OutcomeText(const Completion& completion) {
  switch (completion.outcome) {
    case BH_OUTCOME_PENDING:
      return "pending";
    case BH_OUTCOME_ANSWERED:
      return "answered";
    case BH_OUTCOME_CACHED:
      return "answered from the cache";
    case BH_OUTCOME_POLICY:
      return absl::StrCat("by policy: ", bh_reason_name(completion.reason));
    case BH_OUTCOME_UNASKED:
      return "no driver registered for it";
    case BH_OUTCOME_CANCELLED:
      return "cancelled";
    case BH_OUTCOME_UNKNOWN:
      return "unknown: the host died during the call";
    default:
      return "not an outcome";
  }
}

}  // namespace bulkhead
