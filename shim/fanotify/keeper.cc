// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "shim/embedded/user_channel.h"
#include "shim/embedded/user_platform.h"

namespace bulkhead {
namespace {

// After more deaths than this the next worker would die of the same cause: the keeper exits, and
// the supervisor sees its end.
constexpr uint32_t kUnreadyDeathsMax = 20;
constexpr uint64_t kStopNs = 2 * kNanosecondsPerSecond;
// Descriptors that are neither events' nor the keeper's at the time it counts: the worker's own.
constexpr rlim_t kDescriptorsSpare = 128;

// Whoever does not read standard error keeps nobody waiting.
void Say(const std::string& text) {
  const std::string line = absl::StrCat("bulkhead-shim-fanotify: ", text, "\n");
  if (!PollUntil(STDERR_FILENO, POLLOUT, 0)) return;
  (void)!write(STDERR_FILENO, line.data(), std::min<size_t>(line.size(), PIPE_BUF));
}

// Raises the limit to what the system allows; returns it.
rlim_t RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Keeper>> Keeper::Create() {
  std::unique_ptr<Keeper> keeper(new Keeper());
  prctl(PR_SET_NAME, "bulkhead-keeper");
  prctl(PR_SET_PDEATHSIG, 0);  // KeeperProcess has set it
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN);  // an operator's Ctrl-C is for the supervisor, which ends the keeper in
                            // order
  signal(SIGHUP, SIG_IGN);

  absl::StatusOr<SharedMemory> journal =
      SharedMemory::MapChecked(UniqueFd(kKeeperJournalFd), kJournalBytes,
                               SharedMemory::Access::kReadWrite, F_SEAL_SHRINK | F_SEAL_GROW);
  if (!journal.ok()) return journal.status();
  absl::StatusOr<SharedMemory> exclusions =
      SharedMemory::MapChecked(UniqueFd(kKeeperExclusionsFd), 4096, SharedMemory::Access::kReadOnly,
                               F_SEAL_SHRINK | F_SEAL_GROW);
  if (!exclusions.ok()) return exclusions.status();
  keeper->journal_memory_ = *std::move(journal);
  keeper->exclusions_memory_ = *std::move(exclusions);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  keeper->child_signal_.reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!keeper->child_signal_.valid()) return absl::ErrnoToStatus(errno, "signalfd");
  keeper->own_pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!keeper->own_pidfd_.valid()) return absl::ErrnoToStatus(errno, "pidfd_open");

  WorkerSetup& setup = keeper->setup_;
  setup.journal = reinterpret_cast<Journal*>(keeper->journal_memory_.data());
  setup.exclusions = reinterpret_cast<const ExclusionTable*>(keeper->exclusions_memory_.data());
  if (setup.journal->magic != kJournalMagic) {
    return absl::InvalidArgumentError(
        "the journal has a wrong magic number: install supervisor and bulkhead-shim-fanotify of "
        "one release");
  }
  for (uint32_t group = 0; group < kGuardGroups; ++group) {
    setup.groups[group] = kKeeperGroupsFd + static_cast<int>(group);
  }
  setup.control = kKeeperControlFd;
  setup.keeper_pid = getpid();
  setup.keeper_pidfd = keeper->own_pidfd_.get();
  return keeper;
}

int Keeper::Run() {
  while (!stop_) {
    pollfd waited[2] = {{.fd = kKeeperSocketFd, .events = POLLIN, .revents = 0},
                        {.fd = child_signal_.get(), .events = POLLIN, .revents = 0}};
    if (poll(waited, 2, -1) < 0) continue;
    if (waited[1].revents != 0) {
      signalfd_siginfo ignored;
      while (read(child_signal_.get(), &ignored, sizeof(ignored)) > 0) {
      }
      ReapWorker();
    }
    if (waited[0].revents != 0) {
      const absl::Status status = HandleOrder();
      if (absl::IsUnavailable(status)) break;
    }
    if (run_ && !stop_ && worker_ < 0) {
      const absl::Status status = StartWorker();
      if (!status.ok()) {
        Say(status.ToString());
        return 1;
      }
    }
  }
  StopInOrder();
  return 0;
}

absl::Status Keeper::HandleOrder() {
  KeeperRequest request;
  const ssize_t bytes = recv(kKeeperSocketFd, &request, sizeof(request), MSG_DONTWAIT);
  if (bytes == 0) return absl::UnavailableError("the supervisor has closed its socket");
  if (bytes < 0) {
    return errno == EAGAIN || errno == EINTR
               ? absl::OkStatus()
               : absl::UnavailableError("the supervisor's socket is broken");
  }
  if (bytes != sizeof(request) || request.version != kKeeperVersion) {
    absl::Status status = absl::InvalidArgumentError(
        "the supervisor and bulkhead-shim-fanotify are of different versions: install both of one "
        "release");
    Reply(status, nullptr);
    return status;
  }
  order_ = request.number;
  switch (request.order) {
    case KeeperOrder::kConfigure:
      Reply(Configure(request), nullptr);
      return absl::OkStatus();
    case KeeperOrder::kAddChannel:
      return AddChannel(request);  // replies itself
    case KeeperOrder::kRun:
      run_ = configured_;
      Reply(configured_ ? absl::OkStatus() : absl::FailedPreconditionError("not configured"),
            nullptr);
      return absl::OkStatus();
  }
  Reply(absl::InvalidArgumentError(
            absl::StrCat("order ", static_cast<int>(request.order), " is unknown")),
        nullptr);
  return absl::OkStatus();
}

absl::Status Keeper::Configure(const KeeperRequest& request) {
  const rlim_t descriptors = RaiseDescriptorLimit();
  if (descriptors < 2 * kDescriptorsSpare) {
    return absl::ResourceExhaustedError(
        absl::StrCat("only ", descriptors, " descriptors allowed: raise ulimit -n"));
  }
  setup_.readers = std::clamp(request.readers, 1u, kReadersMax);
  // The kernel denies an event when the descriptor table is full.
  setup_.in_flight_max = static_cast<uint32_t>(std::min<rlim_t>(
      {kInFlightMax, std::max(request.in_flight_max, 1u), descriptors - kDescriptorsSpare}));
  configured_ = true;
  return absl::OkStatus();
}

absl::Status Keeper::AddChannel(const KeeperRequest& request) {
  if (!configured_ || setup_.channels.size() >= BH_CHANNELS_MAX) {
    Reply(configured_
              ? absl::ResourceExhaustedError(absl::StrCat("the shim has ", BH_CHANNELS_MAX,
                                                          " drivers, the most that it can have"))
              : absl::FailedPreconditionError("not configured"),
          nullptr);
    return absl::OkStatus();
  }
  ChannelSpec spec(std::string(request.driver, strnlen(request.driver, sizeof(request.driver))));
  static_cast<bh_channel_spec&>(spec) = request.spec;

  // No worker may run while the descriptor table changes: it closes the descriptors that it does
  // not know.
  KillWorker();
  const std::set<int> before = OpenDescriptors();
  absl::StatusOr<ChannelMemory> memory = ChannelMemory::Create(spec.geometry);
  absl::StatusOr<DescriptorRoute> route = DescriptorRoute::Create();
  if (!memory.ok() || !route.ok()) {
    Reply(memory.ok() ? route.status() : memory.status(), nullptr);
    return absl::OkStatus();
  }
  // The header must be written before a host maps the region, possibly before any worker runs. No
  // call is made on this channel: it is dropped at once.
  UserPlatform platform(nullptr, nullptr, /*timed_every=*/1);
  absl::StatusOr<std::unique_ptr<UserChannel>> first =
      UserChannel::Create(0, spec, platform.core(), &*route, memory->call_region(),
                          memory->reply_region(), /*takeover=*/0);
  if (!first.ok()) {
    Reply(first.status(), nullptr);
    return absl::OkStatus();
  }
  if (!setup_.keeper_descriptors.empty()) {
    for (const int descriptor : OpenDescriptors()) {
      if (before.count(descriptor) == 0) setup_.keeper_descriptors.insert(descriptor);
    }
  }
  ChannelState state = {};
  state.policy = request.spec.policy;
  state.wanted.callbacks = bh_set_everything();
  state.wanted.descriptor_callbacks = bh_set_everything();
  StoreChannelState(setup_.journal->channels[setup_.channels.size()], state);
  absl::StatusOr<ChannelDescriptors> descriptors = memory->Descriptors();
  setup_.channels.push_back(std::make_unique<KeeperChannel>(
      KeeperChannel{std::move(spec), *std::move(memory), *std::move(route)}));
  if (!descriptors.ok()) {
    Reply(descriptors.status(), nullptr);
    return absl::OkStatus();
  }
  Reply(absl::OkStatus(), &*descriptors);
  return absl::OkStatus();
}

absl::Status Keeper::StartWorker() {
  if (setup_.keeper_descriptors.empty()) setup_.keeper_descriptors = OpenDescriptors();
  setup_.incarnation = setup_.journal->incarnation.fetch_add(1) + 1;
  std::fflush(nullptr);
  // Not fork(): the descriptor table must be shared, so that events outlive the worker.
  const long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot start a worker");
  if (pid == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    RunWorker(setup_);
  }
  worker_ = static_cast<pid_t>(pid);
  for (const std::unique_ptr<KeeperChannel>& channel : setup_.channels) channel->used = true;
  return absl::OkStatus();
}

void Keeper::KillWorker() {
  if (worker_ < 0) return;
  kill(worker_, SIGKILL);
  while (waitpid(worker_, nullptr, 0) < 0 && errno == EINTR) {
  }
  worker_ = -1;
}

void Keeper::ReapWorker() {
  if (worker_ < 0) return;
  int status = 0;
  if (waitpid(worker_, &status, WNOHANG | WUNTRACED) != worker_) return;
  if (WIFSTOPPED(status)) {
    KillWorker();  // processes wait in the kernel for it, without a limit
    return;
  }
  worker_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    stop_ = true;  // its socket was closed: the keeper's is too, or will be in a moment
    return;
  }
  const bool served = setup_.journal->ready.load() == setup_.incarnation;
  unready_deaths_ = served ? 0 : unready_deaths_ + 1;
  if (unready_deaths_ >= kUnreadyDeathsMax) {
    Say(absl::StrCat(unready_deaths_, " workers died before they served"));
    stop_ = true;
  }
}

void Keeper::Reply(const absl::Status& status, const ChannelDescriptors* descriptors) {
  KeeperReply reply = {};
  reply.version = kKeeperVersion;
  reply.number = order_;
  reply.failed = status.ok() ? 0 : 1;
  const std::string error(status.message());
  std::memcpy(reply.error, error.data(), std::min(error.size(), sizeof(reply.error) - 1));
  iovec bytes = {.iov_base = &reply, .iov_len = sizeof(reply)};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (descriptors != nullptr) {
    const int sent[2] = {descriptors->call_region.get(), descriptors->reply_region.get()};
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(sent));
    std::memcpy(CMSG_DATA(header), sent, sizeof(sent));
  }
  while (sendmsg(kKeeperSocketFd, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

void Keeper::StopInOrder() {
  const uint64_t until_ns = MonotonicAfterNs(kStopNs);
  while (worker_ > 0 && MonotonicNowNs() < until_ns) {
    pollfd waited = {.fd = child_signal_.get(), .events = POLLIN, .revents = 0};
    poll(&waited, 1, 100);
    signalfd_siginfo ignored;
    while (read(child_signal_.get(), &ignored, sizeof(ignored)) > 0) {
    }
    if (waitpid(worker_, nullptr, WNOHANG) == worker_) worker_ = -1;
  }
  KillWorker();
}

}  // namespace bulkhead
