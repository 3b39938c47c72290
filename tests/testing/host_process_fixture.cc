// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/host_process_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/generation_spec.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/log_ring_unsafe.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kStepNs = 30 * kNanosecondsPerSecond;
constexpr int kStepMs = 30'000;
constexpr int kControlFd = 3;
constexpr int kLeftOpenFd = 4;

}  // namespace

absl::StatusOr<std::unique_ptr<HostRun>> HostRun::Spawn(const std::string& program,
                                                        int leave_open) {
  auto sockets = ControlSocket::Pair();
  if (!sockets.ok()) return sockets.status();
  std::unique_ptr<HostRun> run(new HostRun);
  run->control_ = std::move(sockets->first);
  const int theirs = sockets->second.fd();
  run->spawned_ns_ = MonotonicNowNs();
  run->pid_ = fork();
  if (run->pid_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (run->pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // dup2 onto itself would keep close-on-exec.
    const int high = fcntl(theirs, F_DUPFD, 10);
    const int left = leave_open < 0 ? -1 : fcntl(leave_open, F_DUPFD, 10);
    if (high < 0 || dup2(high, kControlFd) < 0) _exit(127);
    if (left >= 0 && dup2(left, kLeftOpenFd) < 0) _exit(127);
    close_range(left >= 0 ? kLeftOpenFd + 1 : kControlFd + 1, ~0u, 0);
    const char* const words[] = {program.c_str(), nullptr};
    execv(program.c_str(), const_cast<char* const*>(words));
    _exit(127);
  }
  run->pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, run->pid_, 0)));
  sockets->second.Close();  // otherwise the end of the host could not be seen
  if (absl::Status status = run->AwaitHello(); !status.ok()) return status;
  return run;
}

absl::StatusOr<std::unique_ptr<HostRun>> HostRun::SpawnInNamespace(const std::string& program,
                                                                   const HostLimits& limits,
                                                                   HostCgroups* groups) {
  auto sockets = ControlSocket::Pair();
  if (!sockets.ok()) return sockets.status();
  std::unique_ptr<HostRun> run(new HostRun);
  run->control_ = std::move(sockets->first);
  run->spawned_ns_ = MonotonicNowNs();
  ProcessSpawner spawner(program, groups);
  absl::StatusOr<ChildProcess> child = spawner.Spawn(sockets->second.Release(), limits);
  if (!child.ok()) return child.status();
  run->child_ = *std::move(child);
  run->pid_ = run->child_.pid;
  run->pidfd_ = std::move(run->child_.pidfd);
  if (absl::Status status = spawner.LetRun(run->child_); !status.ok()) return status;
  if (absl::Status status = run->AwaitHello(); !status.ok()) return status;
  return run;
}

absl::Status HostRun::AwaitHello() {
  absl::StatusOr<ControlMessage> hello = control_.Receive(MonotonicAfterNs(kStepNs));
  if (!hello.ok()) return hello.status();
  hello_ns_ = MonotonicNowNs();
  if (hello->as<wire::Hello>() == nullptr) {
    return absl::InternalError(absl::StrCat("expected Hello, got ", hello->name()));
  }
  return absl::OkStatus();
}

HostRun::~HostRun() { Kill(); }

absl::StatusOr<std::vector<UniqueFd>> HostRun::OpenChannel(ShimLink& link, ChannelId channel) {
  absl::StatusOr<ChannelDescriptors> regions = link.Descriptors(channel);
  if (!regions.ok()) return regions.status();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  shim_files_.reset(ends[0]);
  std::vector<UniqueFd> descriptors;
  descriptors.push_back(std::move(regions->call_region));
  descriptors.push_back(std::move(regions->reply_region));
  descriptors.emplace_back(ends[1]);
  if (regions->notification_region.valid()) {
    descriptors.push_back(std::move(regions->notification_region));
  }
  return descriptors;
}

absl::Status HostRun::Attach(ShimLink& link, ChannelId channel, AttachFields fields,
                             int checkpoint) {
  if (!child_.group.name().empty()) fields.group = child_.group.name();
  absl::StatusOr<LifeLine> life_line = LifeLine::Create();
  if (!life_line.ok()) return life_line.status();
  const int line = life_line->fd().get();
  absl::StatusOr<SharedMemory> log = SharedMemory::Create("bulkhead-log-test", LogRing::kBytes);
  if (!log.ok()) return log.status();
  for (const absl::Status& status : {log->SealAgainstResize(), log->SealForGood()}) {
    if (!status.ok()) return status;
  }
  log_memory_ = *std::move(log);
  std::vector<int> with = {line, checkpoint >= 0 ? checkpoint : line, log_memory_.fd().get()};
  std::vector<UniqueFd> of_channel;
  if (!fields.standby) {
    absl::StatusOr<std::vector<UniqueFd>> opened = OpenChannel(link, channel);
    if (!opened.ok()) return opened.status();
    of_channel = *std::move(opened);
  }
  for (const UniqueFd& descriptor : of_channel) with.push_back(descriptor.get());
  return control_.Send(MakeAttach(fields), with);
}

absl::Status HostRun::AwaitReady() {
  absl::StatusOr<ControlMessage> message = Receive();
  if (!message.ok()) return message.status();
  if (message->as<wire::Ready>() != nullptr) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("expected Ready, got ", message->name()));
}

absl::Status HostRun::TakeOver(ShimLink& link, ChannelId channel, AttachFields fields) {
  absl::StatusOr<std::vector<UniqueFd>> of_channel = OpenChannel(link, channel);
  if (!of_channel.ok()) return of_channel.status();
  std::vector<int> with;
  for (const UniqueFd& descriptor : *of_channel) with.push_back(descriptor.get());
  if (absl::Status status = control_.Send(MakeServe(fields.generation), with); !status.ok()) {
    return status;
  }
  return BeginStarted(link, channel, fields);
}

absl::Status HostRun::AwaitStarted() {
  absl::StatusOr<ControlMessage> message = Receive();
  if (!message.ok()) return message.status();
  if (const auto* failed = message->as<wire::StartFailed>()) {
    return absl::FailedPreconditionError(failed->reason()->str());
  }
  const auto* started = message->as<wire::Started>();
  if (started == nullptr) {
    return absl::InternalError(absl::StrCat("expected Started, got ", message->name()));
  }
  absl::StatusOr<StartedFields> fields = ReadStarted(*started);
  if (!fields.ok()) return fields.status();
  started_ = *std::move(fields);
  return absl::OkStatus();
}

absl::Status HostRun::Begin(ShimLink& link, ChannelId channel, const AttachFields& fields,
                            int checkpoint) {
  if (absl::Status status = Attach(link, channel, fields, checkpoint); !status.ok()) return status;
  return BeginStarted(link, channel, fields);
}

absl::Status HostRun::BeginStarted(ShimLink& link, ChannelId channel, const AttachFields& fields) {
  if (absl::Status status = AwaitStarted(); !status.ok()) return status;
  return link.BeginGeneration(
      channel,
      GenerationSpec(fields.generation, started_.callbacks, started_.descriptors,
                     fields.content_version, started_.notifications),
      std::move(shim_files_));
}

absl::StatusOr<ControlMessage> HostRun::Receive() {
  for (;;) {
    absl::StatusOr<ControlMessage> message = control_.Receive(MonotonicAfterNs(kStepNs));
    if (!message.ok()) return message;
    if (const auto* sandboxed = message->as<wire::Sandboxed>()) {
      sandbox_ = ReadSandboxed(*sandboxed);
      continue;
    }
    const auto* line = message->as<wire::LogLine>();
    if (line == nullptr) return message;
    absl::StrAppend(&log_, line->text()->str(), "\n");
  }
}

int HostRun::Wait() {
  if (pid_ <= 0) return -1;
  pollfd ended = {pidfd_.get(), POLLIN, 0};
  int ready;
  do {
    ready = poll(&ended, 1, kStepMs);
  } while (ready < 0 && errno == EINTR);
  if (ready != 1) return -1;
  int status = -1;
  waitpid(pid_, &status, 0);
  child_.group.Remove();
  pid_ = -1;
  return status;
}

int HostRun::Kill() {
  if (pid_ <= 0) return -1;
  kill(pid_, SIGKILL);
  return Wait();
}

}  // namespace bulkhead
