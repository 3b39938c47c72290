// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "ipc/check.h"
#include "ipc/control/shim_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "shim/embedded/denial_queue.h"
#include "shim/embedded/event_queue.h"
#include "shim/embedded/user_channel.h"
#include "shim/embedded/user_platform.h"
#include "shim/fanotify/closer.h"
#include "shim/fanotify/completer.h"
#include "shim/fanotify/event_table.h"
#include "shim/fanotify/opener.h"
#include "shim/fanotify/reader.h"
#include "shim/fanotify/stop_signal.h"
#include "shim/fanotify/worker_control.h"

namespace bulkhead {
namespace {

constexpr uint64_t kEventSendNs = 100 * kNanosecondsPerMillisecond;
// Denials leave that much of the socket to events and answers: while no supervisor reads, any user
// can cause denials.
constexpr int kUnreadDenialsBytes = 32 << 10;
constexpr int kDenialAgainMs = 100;
// After the keeper's death calls get this long to end normally; then the supervisor answers them by
// policy, so that a next keeper can begin.
constexpr uint64_t kDrainNs = 500 * kNanosecondsPerMillisecond;
constexpr uint64_t kStopNs = 500 * kNanosecondsPerMillisecond;
constexpr int kIdlePollMs = 1;

// Waits for a supervisor that reads; what finds no room behind it meanwhile the core counts.
void SendDenial(ControlSocket& control, uint32_t channel, const bh_denial& denial) {
  const ControlBuffer message = MakeShimDenial(channel, denial);
  for (;;) {
    int unread = 0;
    if (ioctl(control.fd(), SIOCOUTQ, &unread) == 0 && unread < kUnreadDenialsBytes) {
      const absl::Status sent = control.Send(message, {}, MonotonicAfterNs(kEventSendNs));
      if (!absl::IsDeadlineExceeded(sent)) return;
    }
    poll(nullptr, 0, kDenialAgainMs);
  }
}

// For the completer. For each answer the kernel wakes every process that waits in the group; with
// thousands of them, each would preempt the completer only to wait again, and the last answers
// would be seconds late. The completer sleeps between short bursts, so it delays no other thread
// for long. Without CAP_SYS_NICE it keeps its priority.
void RaisePriority() {
  const sched_param priority = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_RR, &priority) != 0) setpriority(PRIO_PROCESS, 0, -20);
}

// Whether a descriptor could be an event's: of a regular file, and none of those that a worker
// reads about processes. Asks no file server: none may keep a worker from its start.
class EventFiles {
 public:
  EventFiles() {
    for (const char* path : {"/proc/self/status", "/proc/self/ns/user"}) {
      struct statx object = {};
      if (statx(AT_FDCWD, path, 0, STATX_TYPE, &object) == 0) ours_.insert(DeviceOf(object));
    }
  }
  bool Contains(int descriptor) const {
    struct statx object = {};
    return statx(descriptor, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &object) == 0 &&
           S_ISREG(object.stx_mode) && ours_.count(DeviceOf(object)) == 0;
  }

 private:
  static dev_t DeviceOf(const struct statx& object) {
    return makedev(object.stx_dev_major, object.stx_dev_minor);
  }
  std::set<dev_t> ours_;
};

// Closes the descriptors that the previous worker left in the shared table, and returns those among
// them that could be events which are not in the journal.
std::vector<int> ClearDescriptors(const WorkerSetup& setup, Closer& closer) {
  std::set<int> events;
  std::set<int> answered;
  std::set<int> slow;
  for (const JournalRecord& record : setup.journal->records) {
    // SUBTLE: relaxed, as no other process can write it: the previous worker is dead.
    if (IsUnanswered(record)) {
      events.insert(record.metadata.fd);
    } else if (record.state.load(std::memory_order_relaxed) == RecordState::kAnswered) {
      answered.insert(record.metadata.fd);
      if (IsSlow(record.group)) slow.insert(record.metadata.fd);
    }
  }
  std::vector<int> unknown;
  const EventFiles files;
  for (const int descriptor : OpenDescriptors()) {
    if (setup.keeper_descriptors.count(descriptor) != 0 || events.count(descriptor) != 0) continue;
    if (slow.count(descriptor) != 0) {
      closer.Close(descriptor);
    } else if (answered.count(descriptor) == 0 && files.Contains(descriptor)) {
      unknown.push_back(descriptor);
    } else {
      close(descriptor);
    }
  }
  return unknown;
}

std::unique_ptr<UserChannel> RestoreChannel(ChannelId id, KeeperChannel& made, uint32_t takeover,
                                            const bh_platform* platform, Journal& journal) {
  absl::StatusOr<std::unique_ptr<UserChannel>> channel =
      UserChannel::Create(id, made.spec, platform, &made.route, made.memory.call_region(),
                          made.memory.reply_region(), takeover);
  BULKHEAD_CHECK(channel.ok());  // the keeper has checked the spec
  const ChannelState state = LoadChannelState(journal.channels[id]);
  BULKHEAD_CHECK((*channel)->SetPolicy(state.policy).ok());
  if (state.generation != 0) {
    BULKHEAD_CHECK((*channel)->BeginGeneration(state.wanted).ok());
  } else {
    (*channel)->SetWanted(state.wanted);
  }
  (*channel)->SetState(state.quarantined != 0, state.draining != 0);
  return *std::move(channel);
}

}  // namespace

std::set<int> OpenDescriptors() {
  std::set<int> descriptors;
  DIR* directory = opendir("/proc/self/fd");
  BULKHEAD_CHECK(directory != nullptr);
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const int descriptor = std::atoi(entry->d_name);
    if (descriptor != dirfd(directory)) descriptors.insert(descriptor);
  }
  closedir(directory);
  return descriptors;
}

void RunWorker(WorkerSetup& setup) {
  prctl(PR_SET_NAME, "bulkhead-worker");
  Journal& journal = *setup.journal;
  ControlSocket control{UniqueFd(setup.control)};
  // Before any descriptor is opened: the table has only those of the keeper and the previous
  // worker.
  Closer closer;
  const std::vector<int> unknown = ClearDescriptors(setup, closer);

  StopSignal stop;
  EventQueue events([&control](const CoreEvent& event) {
    // If the supervisor does not read for so long, the event is lost; the heartbeat still works.
    control
        .Send(MakeShimEvent(event.channel, event.event, event.detail, event.generation,
                            event.call_id),
              {}, MonotonicAfterNs(kEventSendNs))
        .IgnoreError();
  });
  DenialQueue denials([&control](uint32_t channel, const bh_denial& denial) {
    SendDenial(control, channel, denial);
  });
  UserPlatform platform(&events, &denials, /*timed_every=*/1);

  bh_shim stack;
  bh_shim_init(&stack, platform.core());
  std::vector<std::unique_ptr<UserChannel>> channels;
  for (size_t i = 0; i < setup.channels.size(); ++i) {
    KeeperChannel& made = *setup.channels[i];
    channels.push_back(RestoreChannel(static_cast<ChannelId>(i), made,
                                      made.used ? setup.incarnation : 0, platform.core(), journal));
    BULKHEAD_CHECK(bh_shim_add(&stack, channels.back()->core()) == 0);
  }

  EventTable table(&journal, setup.groups, setup.in_flight_max, &closer);
  std::mutex lead;
  ReaderContext context;
  Completer completer(&stop, [&context, &table](Event& event) {
    AnswerCall(context, event);
    table.Release(event);
  });
  context.groups = setup.groups;
  context.journal = &journal;
  context.events = &table;
  context.closer = &closer;
  context.completer = &completer;
  context.stack = &stack;
  context.exclusions = setup.exclusions;
  context.stop = &stop;
  context.own_pid = getpid();
  context.keeper_pid = setup.keeper_pid;
  context.lead = &lead;

  // The calls of the previous worker are made again, with their remaining time; no further events
  // are read before that, so that the journal's descriptor numbers are still valid.
  const std::vector<Event*> adopted = table.Adopt(unknown);
  const auto resume = [&](Event* event) {
    if (IsOfAPeer(*setup.exclusions, table.metadata(*event).pid)) {
      table.Answer(*event, true);
      table.Release(*event);
      return;
    }
    FillEventCall(stack, table.metadata(*event), *event);
    event->call.opener = OpenerOf(table.metadata(*event).pid);
    table.Charge(*event);
    bh_call_start(&stack, &event->call);
    completer.Park(event);
  };
  std::vector<Event*> slow;
  for (Event* event : adopted) {
    if (table.IsSlow(*event)) {
      slow.push_back(event);
    } else {
      resume(event);
    }
  }

  WorkerControl orders(&control, &journal, &setup, &channels, &stop);
  // What is not waited for is detached: this function does not return.
  std::thread([&completer] {
    RaisePriority();
    completer.Run();
  }).detach();
  std::vector<std::thread> readers;
  for (uint32_t i = 0; i < std::clamp(setup.readers, 1u, kReadersMax); ++i) {
    readers.emplace_back([&context] { Reader(&context, GroupKind::kLocal).Run(); });
  }
  // Not waited for: one may stand in an open, or in asking for attributes, that does not end.
  std::atomic<size_t> resumed = 0;
  for (uint32_t i = 0; i < kSlowReaders; ++i) {
    std::thread([&] {
      for (size_t next; (next = resumed.fetch_add(1)) < slow.size();) {
        context.slow_busy.fetch_add(1);
        resume(slow[next]);
        context.slow_busy.fetch_sub(1);
      }
      Reader(&context, GroupKind::kSlow).Run();
    }).detach();
  }
  journal.ready.store(setup.incarnation, std::memory_order_release);
  std::thread([&orders, count = adopted.size()] {
    orders.Run(static_cast<uint32_t>(count));
  }).detach();

  pollfd waited[2] = {{.fd = setup.keeper_pidfd, .events = POLLIN, .revents = 0},
                      {.fd = stop.fd(), .events = POLLIN, .revents = 0}};
  while (stop.mode() == StopMode::kNone) {
    poll(waited, 2, -1);
    if (waited[0].revents != 0) stop.Raise(StopMode::kDrain);
  }
  completer.Wake();
  for (std::thread& reader : readers) reader.join();
  uint64_t until_ns = MonotonicAfterNs(stop.mode() == StopMode::kDrain ? kDrainNs : kStopNs);
  while ((table.in_use() > 0 || context.slow_busy.load() > 0) && MonotonicNowNs() < until_ns) {
    poll(nullptr, 0, kIdlePollMs);
  }
  // The remaining threads have no event that a process waits for.
  _exit(0);
}

}  // namespace bulkhead
