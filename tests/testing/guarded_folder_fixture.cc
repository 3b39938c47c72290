// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/guarded_folder_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

constexpr int kReadyWithinMs = 40'000;
constexpr uint64_t kEndWithinNs =
    60 * kNanosecondsPerSecond;  // more than the bounds of all that a stop waits for

// As the operator would type it.
std::vector<std::string> Words(const Program& program, const ServiceOptions& options,
                               const std::string& attach, const std::string& folder,
                               const std::string& json, bool quiet, int ready_fd,
                               const std::string& service) {
  std::vector<std::string> words = {program.folder + "/" + service,
                                    "run",
                                    "--attachment",
                                    attach,
                                    "--guard",
                                    folder,
                                    "--deadline",
                                    absl::StrCat(options.deadline_ns / 1'000'000, "ms"),
                                    "--cache",
                                    absl::StrCat(options.each.cache_entries),
                                    "--spin",
                                    absl::StrCat(options.each.spin_us),
                                    "--json",
                                    json,
                                    "--ready-fd",
                                    absl::StrCat(ready_fd)};
  for (const std::string& driver : options.drivers) words.insert(words.end(), {"--driver", driver});
  if (!options.each.content_folder.empty())
    words.insert(words.end(), {"--rules", options.each.content_folder});
  if (!options.each.options.empty()) {
    words.insert(words.end(), {"--driver-options", options.each.options});
  }
  if (quiet) words.push_back("--quiet");
  return words;
}

// This process moves to a mount namespace of its own and mounts a tmpfs over `folder`, which no
// other process sees; it is gone when the last process of the namespace is.
absl::Status MountPrivately(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0) return absl::ErrnoToStatus(errno, "a mount namespace");
  // What is mounted here must not be seen, or undone, elsewhere.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return absl::ErrnoToStatus(errno, "private mounts");
  }
  if (mount("bulkhead", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=512m") != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("a tmpfs on ", folder));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuardedFolder>> GuardedFolder::Create(std::string service) {
  absl::StatusOr<TemporaryFolder> folder = TemporaryFolder::Create();
  if (!folder.ok()) return folder.status();
  absl::StatusOr<TemporaryFolder> reports = TemporaryFolder::Create();
  if (!reports.ok()) return reports.status();
  std::unique_ptr<GuardedFolder> made(
      new GuardedFolder(*std::move(folder), *std::move(reports), std::move(service)));
  if (absl::Status status = MountPrivately(made->path()); !status.ok()) return status;
  made->mounted_ = true;
  return made;
}

absl::Status GuardedFolder::Guard(const Program& program, const ServiceOptions& options, bool quiet,
                                  const std::string& attach) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd ready_out(ready[0]);
  UniqueFd ready_in(ready[1]);
  fcntl(ready_in.get(), F_SETFD, 0);  // the service inherits it
  const std::vector<std::string> words =
      Words(program, options, attach, path(), reports_.path() + "/run.json", quiet, ready_in.get(),
            program_);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t starter = getpid();
  service_ = fork();
  if (service_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (service_ == 0) {  // only system calls: the starter may have threads
    if (ends_with_starter_) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (getppid() != starter) _exit(1);
    }
    execv(arguments[0], arguments.data());
    constexpr char kText[] = "can't execute bulkhead\n";
    (void)!write(STDERR_FILENO, kText, sizeof(kText) - 1);
    _exit(127);
  }
  ready_in.reset();
  pollfd wait = {ready_out.get(), POLLIN, 0};
  char line = 0;
  int ready_now;
  do {
    ready_now = poll(&wait, 1, kReadyWithinMs);
  } while (ready_now < 0 && errno == EINTR && !program.interrupted->load());
  if (ready_now == 1 && read(ready_out.get(), &line, 1) == 1) return absl::OkStatus();
  return absl::UnavailableError("the service does not start; the lines above say why");
}

// Its wait status. None: it did not end within the bound, was killed, and is gone.
std::optional<int> GuardedFolder::AwaitEnd() {
  if (service_ <= 0) return std::nullopt;
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, service_, 0)));
  const bool ended =
      pidfd.valid() && PollUntil(pidfd.get(), POLLIN, MonotonicAfterNs(kEndWithinNs));
  if (!ended) kill(service_, SIGKILL);
  int status = 0;
  while (waitpid(service_, &status, 0) < 0 && errno == EINTR) {
  }
  service_ = -1;
  return ended ? std::optional<int>(status) : std::nullopt;
}

void GuardedFolder::Reap() {
  if (service_ > 0) (void)AwaitEnd();
}

absl::StatusOr<std::map<std::string, double>> GuardedFolder::Stop() {
  if (service_ <= 0) return absl::FailedPreconditionError("no service runs");
  kill(service_, SIGTERM);
  const std::optional<int> status = AwaitEnd();
  if (!status) {
    return absl::DeadlineExceededError(absl::StrCat("the service did not end within ",
                                                    kEndWithinNs / kNanosecondsPerSecond,
                                                    " s and was killed"));
  }
  if (!WIFEXITED(*status) || WEXITSTATUS(*status) != 0) {
    return absl::InternalError(absl::StrCat("the service ended badly (status ", *status, ")"));
  }
  std::ifstream file(reports_.path() + "/run.json");
  const auto report = nlohmann::ordered_json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (report.is_discarded()) return absl::InternalError("the service left no report");
  std::map<std::string, double> counts;
  for (const auto& figure : report["figures"]) {
    if (!figure["value"].is_number()) continue;
    counts[figure["name"].get<std::string>()] = figure["value"].get<double>();
  }
  return counts;
}

GuardedFolder::~GuardedFolder() {
  if (service_ > 0) (void)Stop();
  if (mounted_) umount2(path().c_str(), MNT_DETACH);
}

absl::StatusOr<StatusFields> GuardedFolder::Status() const {
  absl::StatusOr<ControlMessage> answer = AskInstance(InstanceSocket(service_), MakeGetStatus());
  if (!answer.ok()) return answer.status();
  const auto* status = answer->as<wire::Status>();
  if (status == nullptr || status->drivers() == nullptr || status->drivers()->size() == 0) {
    return absl::InternalError("the service has no status");
  }
  return ReadStatus(*status);
}

pid_t GuardedFolder::HostPid() const {
  const absl::StatusOr<StatusFields> status = Status();
  return status.ok() && status->drivers[0].pid != 0 ? static_cast<pid_t>(status->drivers[0].pid)
                                                    : -1;
}

pid_t GuardedFolder::ShimPid() const {
  const absl::StatusOr<StatusFields> status = Status();
  return status.ok() && status->shim_pid != 0 ? static_cast<pid_t>(status->shim_pid) : -1;
}

absl::Status GuardedFolder::SetContent(const std::string& driver, const std::string& folder) const {
  absl::StatusOr<ControlMessage> answer =
      AskInstance(InstanceSocket(service_), MakeSetContent(driver, folder));
  if (!answer.ok()) return answer.status();
  const auto* done = answer->as<wire::Done>();
  if (done == nullptr)
    return absl::InternalError(absl::StrCat("the service answered ", answer->name(), ", not Done"));
  if (done->error() == nullptr || done->error()->size() == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(done->error()->str());
}

}  // namespace bulkhead
