// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_lifetime.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_host.h"
#include "bench/bounded_thread.h"
#include "bench/bounded_wait.h"
#include "bench/judge.h"
#include "bench/peer.h"
#include "bench/peers/shared_object.h"
#include "bench/watchdog.h"
#include "host/report/percentiles.h"
#include "host/supervisor/spawner.h"
#include "ipc/channel_memory.h"
#include "ipc/generation_spec.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr double kNewChannelLimitUs = 1000;
constexpr double kDeathLimit = 2;
constexpr uint64_t kFallAsleepNs =
    500'000;  // more than a waiter for the death needs to fall asleep
constexpr size_t kTouchedBytes = size_t{512} * 1024 * 1024;

constexpr const char* kTaken = "a host's first call";

double Microseconds(uint64_t from_ns, uint64_t to_ns) {
  return static_cast<double>(to_ns - from_ns) / 1e3;
}

// ---- A new channel

// What the host that waits tells of its part, by the one clock of all.
struct HostTimes {
  alignas(64) uint64_t received_ns, attached_ns;
};

// The regions of a channel, over a socket.
bool SendRegions(int socket, const ChannelDescriptors& regions) {
  const int fds[2] = {regions.call_region.get(), regions.reply_region.get()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(fds))> control = {};
  char byte = 0;
  iovec part = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(fds));
  std::memcpy(CMSG_DATA(header), fds, sizeof(fds));
  return sendmsg(socket, &message, 0) == 1;
}

bool ReceiveRegions(int socket, ChannelDescriptors* regions) {
  int fds[2];
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(fds))> control = {};
  char byte;
  iovec part = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_len != CMSG_LEN(sizeof(fds))) return false;
  std::memcpy(fds, CMSG_DATA(header), sizeof(fds));
  regions->call_region.reset(fds[0]);
  regions->reply_region.reset(fds[1]);
  return true;
}

// Serves one channel after the other, each until its end is told.
void ServeWhatComes(int socket, HostTimes& times) {
  ChannelDescriptors regions;
  while (ReceiveRegions(socket, &regions)) {
    times.received_ns = MonotonicNowNs();
    auto port = HostPort::Attach(std::move(regions.call_region), std::move(regions.reply_region),
                                 UniqueFd(), {.generation = 1, .spin_ns = kDefaultSpinNs});
    if (!port.ok()) return;
    times.attached_ns = MonotonicNowNs();
    if (write(socket, "", 1) != 1) return;
    const bh_verdict_reply reply = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
    for (int calls = 0; calls < 2; ++calls) {
      std::optional<TakenCall> call = (*port)->Take(0, kForeverNs);
      (*port)->BeginDriver(*call);
      (*port)->Reply(*call, BH_REPLY_DONE,
                     {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
    }
  }
}

struct NewChannelParts {
  std::vector<double> total, regions, core, attach, told, first_call, second_call;
};

absl::Status NewChannel(int socket, const HostTimes& times, NewChannelParts& parts) {
  ChannelSpec spec;
  spec.driver = "bench";
  spec.geometry = DefaultGeometry();
  absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
  if (!shim.ok()) return shim.status();
  const uint64_t started_ns = MonotonicNowNs();
  absl::StatusOr<ChannelId> channel = (*shim)->AddChannel(spec);
  if (!channel.ok()) return channel.status();
  absl::StatusOr<ChannelDescriptors> regions = (*shim)->Descriptors(*channel);
  if (!regions.ok()) return regions.status();
  const uint64_t added_ns = MonotonicNowNs();
  char ready;
  if (!SendRegions(socket, *regions) || read(socket, &ready, 1) != 1) {
    return absl::AbortedError("the host that waits for channels ended");
  }
  const uint64_t told_ns = MonotonicNowNs();
  absl::Status status = (*shim)->BeginGeneration(
      *channel, GenerationSpec(1, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1), UniqueFd());
  if (!status.ok()) return status;
  const bool answered = CallWith48Bytes(**shim) == BH_OUTCOME_ANSWERED;
  const uint64_t ended_ns = MonotonicNowNs();
  const bool again = CallWith48Bytes(**shim) == BH_OUTCOME_ANSWERED;
  const uint64_t again_ns = MonotonicNowNs();
  if (!answered || !again) return absl::AbortedError("a new channel's call was not answered");
  parts.total.push_back(Microseconds(started_ns, ended_ns));
  // The same work on its own: AddChannel() does not tell its parts.
  const uint64_t regions_ns = MonotonicNowNs();
  absl::StatusOr<ChannelMemory> memory = ChannelMemory::Create(spec.geometry);
  parts.regions.push_back(Microseconds(regions_ns, MonotonicNowNs()));
  if (!memory.ok()) return memory.status();
  parts.core.push_back(std::max(0.0, Microseconds(started_ns, added_ns) - parts.regions.back()));
  parts.attach.push_back(Microseconds(times.received_ns, times.attached_ns));
  parts.told.push_back(Microseconds(added_ns, told_ns) - parts.attach.back());
  parts.first_call.push_back(Microseconds(told_ns, ended_ns));
  parts.second_call.push_back(Microseconds(ended_ns, again_ns));
  return absl::OkStatus();
}

// ---- A host's death

pthread_mutexattr_t RobustAndShared() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  return attributes;
}

// Which thread reports a death to the shim, and how it detects the death.
enum class Way {
  kRobustFutex,  // and nothing else: how fast it can be
  kLifeLine,     // as a supervisor does, but for the wake-up of its own thread
};

struct Death {
  const char* by;
  Way way;
  size_t touched_bytes;
  std::vector<double> known_us = {}, ended_us = {};
};

absl::Status Die(BenchChannel& channel, pthread_mutex_t& mutex, Death& death) {
  const pthread_mutexattr_t attributes = RobustAndShared();
  pthread_mutex_init(&mutex, &attributes);
  absl::StatusOr<LifeLine> life_line = LifeLine::Create();
  if (!life_line.ok()) return life_line.status();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd taken(ends[0]), host_took(ends[1]);
  absl::Status status =
      channel.StartHost({.cpu = 1,
                         .keep_and_tell = host_took.get(),
                         .touched_bytes = death.touched_bytes,
                         .held = death.way == Way::kRobustFutex ? &mutex : nullptr,
                         .life_line = death.way == Way::kLifeLine ? &*life_line : nullptr});
  if (!status.ok()) return status;
  const absl::StatusOr<ChildProcess> child = OpenChild(channel.host()->pid());
  if (!child.ok()) return child.status();
  const auto await_end = [&] {
    switch (death.way) {
      case Way::kRobustFutex:
        return pthread_mutex_lock(&mutex) == EOWNERDEAD;
      case Way::kLifeLine:
        return life_line->WaitForEnds() && ProcessSpawner("").Ending(*child).has_value();
    }
    return false;
  };

  uint64_t known_ns = 0, ended_ns = 0;
  uint32_t outcome = BH_OUTCOME_PENDING;
  BoundedThread caller, waiter;
  caller.Start([&] {
    outcome = channel.CallOutcome();
    ended_ns = MonotonicNowNs();
  });
  waiter.Start([&] {
    if (!await_end()) return;
    known_ns = MonotonicNowNs();
    status = channel.EndGeneration();
  });
  if (!AwaitByte(kTaken, taken.get()).ok()) WaitFailed(kTaken);  // the threads would wait on
  const uint64_t asleep_ns = MonotonicAfterNs(kFallAsleepNs);
  while (MonotonicNowNs() < asleep_ns) std::this_thread::yield();
  const uint64_t killed_ns = MonotonicNowNs();
  channel.host()->Kill();
  waiter.Join(death.way == Way::kRobustFutex ? "a host's death, by its robust mutex,"
                                             : "a host's death, by its life line,");
  caller.Join("the end of the call of a dead host");
  pthread_mutex_destroy(&mutex);
  if (!status.ok()) return status;
  if (outcome != BH_OUTCOME_POLICY || known_ns == 0) {
    return absl::AbortedError("a host's death did not end its call by policy");
  }
  death.known_us.push_back(Microseconds(killed_ns, known_ns));
  death.ended_us.push_back(Microseconds(killed_ns, ended_ns));
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureNewChannel(const BenchRun& run, int rounds, Report& report) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  UniqueFd here(ends[0]), there(ends[1]);
  SharedObject<HostTimes> times;
  if (absl::Status status = times.Map(); !status.ok()) return status;
  absl::StatusOr<ForkedProcess> host = ForkedProcess::Start([&] {
    here.reset();
    PinTo(1);
    ServeWhatComes(there.get(), *times);
  });
  if (!host.ok()) return host.status();
  there.reset();
  Watchdog watchdog;
  PinTo(0);
  NewChannelParts parts;
  absl::Status status;
  for (int i = 0; i < rounds && status.ok(); ++i) {
    const Watchdog::Section section = watchdog.Watch("the host's attachment to a new channel");
    status = run.interrupted() ? Interrupted() : NewChannel(here.get(), *times, parts);
  }
  PinToNone();
  if (!status.ok()) return status;
  AddAtMost(report, "new_channel_to_first_answer_p50", ComputePercentiles(parts.total).p50, "us",
            kNewChannelLimitUs, run.limited);
  report.AddInfo("new_channel_to_first_answer_p99", ComputePercentiles(parts.total).p99, "us");
  for (const auto& [name, part] : {std::pair{"regions", &parts.regions},
                                   {"private_memory", &parts.core},
                                   {"host_attach", &parts.attach},
                                   {"telling_the_host", &parts.told},
                                   {"first_call", &parts.first_call},
                                   {"second_call", &parts.second_call}}) {
    report.AddInfo(absl::StrCat("new_channel_", name, "_p50"), ComputePercentiles(*part).p50, "us");
  }
  return absl::OkStatus();
}

absl::Status MeasureDeath(const BenchRun& run, int rounds, Report& report) {
  bh_policy policy = DefaultPolicy();
  for (auto& rules : policy.rule) {
    rules[BH_REASON_CRASHED] = {BH_ACTION_ALLOW, BH_ACTION_ALLOW};
  }
  absl::StatusOr<std::unique_ptr<BenchChannel>> channel =
      BenchChannel::Create(kDefaultSpinNs, policy);
  if (!channel.ok()) return channel.status();
  SharedObject<pthread_mutex_t> mutex;
  if (absl::Status status = mutex.Map(); !status.ok()) return status;
  std::array<Death, 4> deaths = {{{"robust_futex", Way::kRobustFutex, 0},
                                  {"life_line", Way::kLifeLine, 0},
                                  {"robust_futex", Way::kRobustFutex, kTouchedBytes},
                                  {"life_line", Way::kLifeLine, kTouchedBytes}}};
  std::array<size_t, 4> order = {0, 1, 2, 3};
  std::minstd_rand random(1);
  // The host dies on CPU 1. A thread that learns of it there would first wait until the kernel has
  // taken down the dead process: hundreds of microseconds.
  PinTo(0);
  absl::Status status;
  for (int round = 0; round < rounds && status.ok(); ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      if (status.ok()) {
        status = run.interrupted() ? Interrupted() : Die(**channel, *mutex, deaths[i]);
      }
    }
  }
  PinToNone();
  if (!status.ok()) return status;
  for (const Death& death : deaths) {
    const std::string name =
        absl::StrCat("death_of_", death.touched_bytes / 1024 / 1024, "_MiB_host_by_", death.by);
    report.AddInfo(absl::StrCat(name, "_known_p50"), ComputePercentiles(death.known_us).p50, "us");
    report.AddInfo(absl::StrCat(name, "_call_ended_p50"), ComputePercentiles(death.ended_us).p50,
                   "us");
  }
  for (size_t i = 0; i < deaths.size(); i += 2) {
    const double alone_us = ComputePercentiles(deaths[i].known_us).p50;
    const double ended_us = ComputePercentiles(deaths[i + 1].ended_us).p50;
    AddAtMost(report,
              absl::StrCat("death_of_", deaths[i].touched_bytes / 1024 / 1024,
                           "_MiB_host_call_ended/robust_futex_p50"),
              ended_us / alone_us, "", kDeathLimit, run.limited);
  }
  return absl::OkStatus();
}

}  // namespace bulkhead
