// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/fake_host_processes.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/channel.h"
#include "ipc/abi/end.h"
#include "ipc/check.h"
#include "ipc/control/host_protocol.h"
#include "ipc/log_ring_unsafe.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr size_t kLifeLineAt = 0, kLogAt = 2;  // of Attach's descriptors

UniqueFd Null() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

}  // namespace

absl::Status FakeHostProcess::SayHello() {
  return control.Send(MakeHello(BH_ABI_VERSION, /*driver_abi=*/1));
}

absl::Status FakeHostProcess::SayStarted(uint32_t of_generation) {
  return control.Send(MakeStarted({.generation = of_generation, .driver_version = "1"}));
}

absl::Status FakeHostProcess::SaySandboxed(uint32_t layers, std::vector<std::string> lacks) {
  return control.Send(
      MakeSandboxed({.generation = generation, .layers = layers, .lacks = std::move(lacks)}));
}

absl::Status FakeHostProcess::ReadAttach(uint64_t until_ns) {
  for (;;) {
    absl::StatusOr<ControlMessage> message = control.Receive(until_ns);
    if (!message.ok()) return message.status();
    const auto* attach = message->as<wire::Attach>();
    if (attach == nullptr) continue;
    driver = attach->driver_name()->str();
    generation = attach->generation();
    standby = attach->standby();
    absl::StatusOr<LifeLine> line = LifeLine::Attach(message->TakeDescriptor(kLifeLineAt));
    if (!line.ok()) return line.status();
    life_line.emplace(*std::move(line));
    absl::StatusOr<SharedMemory> log =
        SharedMemory::MapChecked(message->TakeDescriptor(kLogAt), LogRing::kBytes,
                                 SharedMemory::Access::kReadWrite, F_SEAL_SEAL);
    if (!log.ok()) return log.status();
    log_memory.emplace(*std::move(log));
    return absl::OkStatus();
  }
}

absl::Status FakeHostProcess::SayReady() { return control.Send(MakeReady(generation)); }

absl::Status FakeHostProcess::ReadServe(uint64_t until_ns) {
  for (;;) {
    absl::StatusOr<ControlMessage> message = control.Receive(until_ns);
    if (!message.ok()) return message.status();
    const auto* serve = message->as<wire::Serve>();
    if (serve == nullptr) continue;
    generation = serve->generation();
    return absl::OkStatus();
  }
}

void FakeHostProcess::Write(const std::string& text) {
  BULKHEAD_CHECK(write(error_output_.get(), text.data(), text.size()) ==
                 static_cast<ssize_t>(text.size()));
}

void FakeHostProcess::Die() { End(SIGSEGV); }

void FakeHostProcess::End(int signal) {
  int none = 0;
  if (!signal_.compare_exchange_strong(none, signal)) return;  // it ends once
  const uint64_t one = 1;
  BULKHEAD_CHECK(write(ended_.get(), &one, sizeof(one)) == sizeof(one));
}

absl::StatusOr<ChildProcess> FakeSpawner::Spawn(UniqueFd control, const HostLimits&) {
  auto host = std::make_shared<FakeHostProcess>();
  host->control = ControlSocket(std::move(control));
  host->ended_.reset(eventfd(0, EFD_CLOEXEC));
  absl::StatusOr<UniqueFd> pidfd = host->ended_.Duplicate();
  if (!pidfd.ok()) return pidfd.status();
  ChildProcess child;
  child.pidfd = *std::move(pidfd);
  int errors[2];
  if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) != 0) return absl::ErrnoToStatus(errno, "pipe");
  child.error_output.reset(errors[0]);
  host->error_output_.reset(errors[1]);
  const std::lock_guard<std::mutex> lock(mutex_);
  child.pid = ++newest_;
  living_[child.pid] = std::move(host);
  return child;
}

absl::Status FakeSpawner::LetRun(ChildProcess& child) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    silent_.push_back(living_.at(child.pid));
  }
  changed_.notify_all();
  return absl::OkStatus();
}

std::shared_ptr<FakeHostProcess> FakeSpawner::Find(pid_t pid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return living_.at(pid);
}

ChildExit FakeSpawner::Exit(const ChildProcess& child) {
  const int signal = Find(child.pid)->signal_;
  return {.end = bh_end_of_exit(signal), .text = absl::StrCat("signal ", signal)};
}

void FakeSpawner::Reap(ChildProcess& child) {
  const std::lock_guard<std::mutex> lock(mutex_);
  living_.erase(child.pid);
}

void FakeSpawner::Kill(const ChildProcess& child) {
  const std::shared_ptr<FakeHostProcess> host = Find(child.pid);
  if (!host->hangs) host->End(SIGKILL);
}

bool FakeSpawner::HasLeft(const ChildProcess& child) { return !Find(child.pid)->hangs; }

std::optional<ChildExit> FakeSpawner::Ending(const ChildProcess& child) {
  const std::shared_ptr<FakeHostProcess> host = Find(child.pid);
  const bool is_ending = host->is_ending;
  ++host->ending_asked;
  if (!is_ending) return std::nullopt;
  return ChildExit{.end = BH_END_CRASHED, .text = "as it was ending"};
}

std::optional<uint64_t> FakeSpawner::SleepCount(const ChildProcess& child) {
  const std::shared_ptr<FakeHostProcess> host = Find(child.pid);
  const int64_t sleeps = host->sleeps;
  ++host->sleeps_asked;
  if (sleeps < 0) return std::nullopt;
  return static_cast<uint64_t>(sleeps);
}

absl::StatusOr<std::shared_ptr<FakeHostProcess>> FakeSpawner::Next(uint64_t until_ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (silent_.empty()) {
    const uint64_t now_ns = MonotonicNowNs();
    if (now_ns >= until_ns) return absl::DeadlineExceededError("no host was started in time");
    changed_.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
  }
  std::shared_ptr<FakeHostProcess> host = std::move(silent_.front());
  silent_.pop_front();
  return host;
}

absl::StatusOr<std::shared_ptr<FakeHostProcess>> FakeSpawner::Attached(const std::string& driver,
                                                                       uint64_t until_ns) {
  for (;;) {
    const auto found = std::find_if(attached_.begin(), attached_.end(),
                                    [&](const auto& host) { return host->driver == driver; });
    if (found != attached_.end()) {
      std::shared_ptr<FakeHostProcess> host = *found;
      attached_.erase(found);
      return host;
    }
    absl::StatusOr<std::shared_ptr<FakeHostProcess>> host = Next(until_ns);
    if (!host.ok()) return host;
    if (absl::Status status = (*host)->SayHello(); !status.ok()) return status;
    if (absl::Status status = (*host)->ReadAttach(until_ns); !status.ok()) return status;
    attached_.push_back(*std::move(host));
  }
}

void FakeShimLink::Hold(ChannelId channel) {
  const std::lock_guard<std::mutex> lock(mutex_);
  held_.insert(channel);
}

void FakeShimLink::HoldAll() {
  const std::lock_guard<std::mutex> lock(mutex_);
  all_held_ = true;
}

void FakeShimLink::LetGo() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    held_.clear();
    all_held_ = false;
  }
  changed_.notify_all();
}

bool FakeShimLink::WaitUntilHeld(uint64_t until_ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (waiting_ == 0) {
    const uint64_t now_ns = MonotonicNowNs();
    if (now_ns >= until_ns) return false;
    changed_.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
  }
  return true;
}

absl::Status FakeShimLink::Pass(std::optional<ChannelId> channel) {
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_;
  const auto held = [&] {
    return all_held_ || (channel.has_value() && held_.count(*channel) != 0);
  };
  if (held()) changed_.notify_all();
  changed_.wait(lock, [&] { return !held(); });
  --waiting_;
  changed_.notify_all();
  return absl::OkStatus();
}

absl::StatusOr<ChannelDescriptors> FakeShimLink::Descriptors(ChannelId channel) {
  (void)Pass(channel);
  if (absent_channels.load() != 0) {
    absent_channels.fetch_sub(1);
    return absl::UnavailableError("the shim is not there");
  }
  return ChannelDescriptors{.call_region = Null(), .reply_region = Null()};
}

absl::Status FakeShimLink::BeginGeneration(ChannelId channel, const bh_generation_spec&, UniqueFd) {
  (void)Pass(channel);
  if (absent_begins.load() == 0) return absl::OkStatus();
  absent_begins.fetch_sub(1);
  return absl::UnavailableError("the shim is not there");
}

absl::StatusOr<bh_statistics> FakeShimLink::Statistics(ChannelId channel) {
  bh_statistics statistics = {};
  statistics.calls = statistics_asked.fetch_add(1) + 1;
  statistics.let_through = let_through;
  (void)Pass(channel);
  if (statistics_fail) return absl::UnavailableError("the shim has no counters");
  return statistics;
}

}  // namespace bulkhead
