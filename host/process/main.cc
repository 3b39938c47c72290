// SPDX-License-Identifier: Apache-2.0
//
// bulkhead-host: one life of one driver. Its supervisor starts it with a control socket, gives it a
// channel and the name of a driver, and watches it. It ends on the supervisor's order, when its
// supervisor has died, or when the driver crashes it; the supervisor then starts the next.
//
// Exit codes: 0 drained as ordered; 1 the driver did not start (StartFailed has the cause); 2 wrong
// usage; 3 the supervisor has died, or sent a malformed message; 128 and a signal's number: the
// signal ended it (end_signals.h).
#include <bulkhead/driver.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "host/attachment/transports.h"
#include "host/process/checkpoint.h"
#include "host/process/dispatcher.h"
#include "host/process/driver_library.h"
#include "host/process/end_signals.h"
#include "host/process/log_queue.h"
#include "host/process/sandbox.h"
#include "ipc/abi/channel.h"
#include "ipc/abi/names.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/host_port.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/log_ring_unsafe.h"
#include "ipc/monotonic.h"
#include "ipc/shared_memory.h"

namespace bulkhead {
namespace {

std::vector<std::string> LinesOf(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

// What it may open by name: the driver and what stands beside it, its content, and what its
// manifest asks for.
std::vector<std::string> FilesOf(const AttachFields& attach) {
  std::vector<std::string> files = {attach.driver_path,
                                    std::filesystem::path(attach.driver_path).parent_path()};
  if (!attach.content_path.empty()) files.push_back(attach.content_path);
  const std::vector<std::string> granted = LinesOf(attach.reads);
  files.insert(files.end(), granted.begin(), granted.end());
  return files;
}

absl::Status BelowLevel(const AttachFields& attach, const SandboxReport& report) {
  const uint32_t missing = bh_sandbox_layers_of(attach.sandbox_required) & ~report.layers;
  std::string layers;
  for (uint32_t bit = 1; bit <= missing; bit <<= 1) {
    if ((missing & bit) == 0) continue;
    const std::string name = bh_sandbox_layer_name(bit);
    const auto lack = std::find_if(report.lacks.begin(), report.lacks.end(), [&](const auto& one) {
      return absl::StartsWith(one, name + ": ");
    });
    absl::StrAppend(&layers, layers.empty() ? "" : "; ", lack != report.lacks.end() ? *lack : name);
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the sandbox reaches the level ", bh_sandbox_level_name(report.level()), ", and ",
      bh_sandbox_level_name(attach.sandbox_required), " is required; it lacks ", layers,
      ": provide that on this machine, or require less with --require-sandbox"));
}

constexpr int kExitNotStarted = 1;
constexpr int kExitUsage = 2;
constexpr int kExitAlone = 3;
constexpr uint64_t kAttachWithinNs = 30 * kNanosecondsPerSecond;

// In the order of Attach's descriptors.
enum AttachDescriptor : size_t { kLifeLine, kCheckpoint, kLog, kAttachDescriptors };

// In the order of those of the channel, which come last.
enum ChannelDescriptor : size_t {
  kCallRegion,
  kReplyRegion,
  kFiles,
  kChannelDescriptors,
  kNotifications = kChannelDescriptors,  // may be absent: the channel has no ring
};

int Alone(const absl::Status& status) {
  std::fprintf(stderr, "bulkhead-host: %s\n", std::string(status.message()).c_str());
  return kExitAlone;
}

// The descriptors in use by now are few and known; any other was inherited by mistake.
void CloseOthers(int control) {
  close_range(static_cast<unsigned>(control) + 1, ~0u, 0);
  if (control > STDERR_FILENO + 1) {
    close_range(STDERR_FILENO + 1, static_cast<unsigned>(control) - 1, 0);
  }
}

absl::StatusOr<ControlMessage> ReceiveAttach(ControlSocket& control) {
  absl::StatusOr<ControlMessage> message = control.Receive(MonotonicAfterNs(kAttachWithinNs));
  if (!message.ok()) return message;
  if (message->as<wire::Attach>() == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("expected Attach, got ", message->name()));
  }
  return message;
}

// All ioctls that any transport needs: a standby does not know its own yet.
std::vector<unsigned long> IoctlsOfAll() {
  std::vector<unsigned long> ioctls;
  for (const HostTransportKind* kind : HostTransports()) {
    ioctls.insert(ioctls.end(), kind->ioctls.begin(), kind->ioctls.end());
  }
  return ioctls;
}

// All steps from Attach to the first call. A standby makes a halt between two of them: when its
// driver has started, and before it touches the channel, which another host serves.
class Life {
 public:
  explicit Life(ControlSocket control) : control_(std::move(control)) {}

  int Run() {
    absl::StatusOr<ControlMessage> message = ReceiveAttach(control_);
    if (!message.ok()) return Alone(message.status());
    absl::StatusOr<AttachFields> attach = ReadAttach(*message->as<wire::Attach>());
    if (!attach.ok()) return Alone(attach.status());
    attach_ = *std::move(attach);
    absl::Status status = attach_.standby ? message->ExpectDescriptors(kAttachDescriptors)
                                          : TakeChannel(*message, kAttachDescriptors);
    if (!status.ok()) return Alone(status);
    if (status = TakeLog(*message); !status.ok()) return Alone(status);
    status = Start(*message);
    if (status.ok()) {
      status = attach_.standby ? control_.Send(MakeReady(attach_.generation)) : Serve();
    }
    return status.ok() ? Loop() : NotStarted(status);
  }

 private:
  int NotStarted(const absl::Status& status) {
    (void)control_.Send(MakeStartFailed(attach_.generation, std::string(status.message())));
    SendLog();
    return kExitNotStarted;
  }

  // Of the message's descriptors those from `first` on.
  absl::Status TakeChannel(ControlMessage& message, size_t first) {
    const size_t ring = message.descriptor_count() > first + kNotifications ? 1 : 0;
    const size_t count = first + kChannelDescriptors + ring;
    if (absl::Status status = message.ExpectDescriptors(count); !status.ok()) return status;
    channel_ = {message.TakeDescriptor(first + kCallRegion),
                message.TakeDescriptor(first + kReplyRegion),
                message.TakeDescriptor(first + kFiles)};
    if (ring != 0) notifications_ = message.TakeDescriptor(first + kNotifications);
    return absl::OkStatus();
  }

  // Sealed for good, like the checkpoint: the next generation gets memory of its own, but the
  // supervisor reads this one.
  absl::Status TakeLog(ControlMessage& message) {
    absl::StatusOr<SharedMemory> memory =
        SharedMemory::MapChecked(message.TakeDescriptor(kLog), LogRing::kBytes,
                                 SharedMemory::Access::kReadWrite, F_SEAL_SEAL);
    if (!memory.ok()) return memory.status();
    log_memory_.emplace(*std::move(memory));
    log_.emplace(std::span(log_memory_->data(), LogRing::kBytes));
    return absl::OkStatus();
  }

  absl::Status FindTransport() {
    const absl::StatusOr<const HostTransportKind*> transport =
        TransportOf(channel_.call_region.get());
    if (transport.ok()) transport_ = *transport;
    return transport.status();
  }

  // The driver has not run yet: what is reported here is true.
  absl::Status LockIn(absl::Span<const unsigned long> ioctls) {
    const AttachFields& attach = attach_;
    const std::vector<std::string> readable = FilesOf(attach), writable = LinesOf(attach.writes);
    const uint64_t before_ns = MonotonicNowNs();
    SandboxReport report;
    if (absl::Status status = EnterSandbox(attach.sandbox,
                                           {.ioctls = ioctls,
                                            .readable = readable,
                                            .writable = writable,
                                            .scratch_bytes = uint64_t{attach.scratch_mib} << 20,
                                            .user = attach.user,
                                            .group = attach.group,
                                            .user_lacks = attach.user_lacks,
                                            .group_lacks = attach.group_lacks,
                                            .processes_lack = attach.processes_lack},
                                           &report);
        !status.ok()) {
      return status;
    }
    const uint64_t spent_ns = MonotonicNowNs() - before_ns;
    // Its end is closed before the kernel ends hosts with it, and this host may have missed that.
    pollfd supervisor = {control_.fd(), POLLIN, 0};
    if (poll(&supervisor, 1, 0) == 1 && (supervisor.revents & POLLHUP) != 0) {
      return absl::CancelledError("the supervisor has died");
    }
    if (absl::Status status =
            control_.Send(MakeSandboxed({.generation = attach.generation,
                                         .layers = report.layers,
                                         .lacks = report.lacks,
                                         .spent_us = static_cast<uint32_t>(spent_ns / 1000)}));
        !status.ok()) {
      return status;
    }
    return report.level() >= attach.sandbox_required ? absl::OkStatus()
                                                     : BelowLevel(attach, report);
  }

  absl::Status Start(ControlMessage& message) {
    const AttachFields& attach = attach_;
    life_line_file_ = message.TakeDescriptor(kLifeLine);
    if (!attach.standby) {
      if (absl::Status status = FindTransport(); !status.ok()) return status;
    }
    const std::vector<unsigned long> all = IoctlsOfAll();
    const absl::Span<const unsigned long> ioctls =
        transport_ != nullptr ? transport_->ioctls : absl::MakeConstSpan(all);
    if (absl::Status status = LockIn(ioctls); !status.ok()) return status;
    absl::StatusOr<DriverLibrary> library = DriverLibrary::Load(
        attach.driver_path, attach.driver_name, attach.callbacks, attach.notifications);
    if (!library.ok()) return library.status();
    library_.emplace(*library);
    if (attach.checkpoint_bytes != 0) {
      // Sealed for good: F_SEAL_WRITE, added by one generation, would deny the next its checkpoint.
      absl::StatusOr<SharedMemory> memory =
          SharedMemory::MapChecked(message.TakeDescriptor(kCheckpoint), attach.checkpoint_bytes,
                                   SharedMemory::Access::kReadWrite, F_SEAL_SEAL);
      if (!memory.ok()) return memory.status();
      checkpoint_memory_.emplace(*std::move(memory));
      checkpoint_.emplace(std::span(checkpoint_memory_->data(), attach.checkpoint_bytes));
    }
    dispatcher_ = std::make_unique<Dispatcher>(
        *library_, &*log_, checkpoint_ ? &*checkpoint_ : nullptr,
        checkpoint_ ? std::span(checkpoint_memory_->data(), attach.checkpoint_bytes)
                    : std::span<std::byte>());
    return dispatcher_->StartDriver(attach);
  }

  // From here on this host, and no other, takes calls and answers.
  absl::Status Serve() {
    serves_ = true;
    const AttachFields& attach = attach_;
    if (attach.standby) {
      if (absl::Status status = FindTransport(); !status.ok()) return status;
    }
    absl::StatusOr<MappedChannel> mapped = transport_->map(std::move(channel_), attach.generation);
    if (!mapped.ok()) return mapped.status();
    absl::StatusOr<std::unique_ptr<HostPort>> port = HostPort::Attach(
        *std::move(mapped),
        {.generation = attach.generation, .workers = attach.workers, .spin_ns = attach.spin_ns});
    if (!port.ok()) return port.status();
    std::unique_ptr<NotificationReader> notifications;
    if (bh_set_empty(&library_->notifications()) == 0 && notifications_.valid()) {
      absl::StatusOr<std::unique_ptr<NotificationReader>> opened =
          (*port)->OpenNotifications(std::move(notifications_));
      if (!opened.ok()) return opened.status();
      notifications = *std::move(opened);
    }
    absl::StatusOr<LifeLine> life_line = LifeLine::Attach(std::move(life_line_file_));
    if (!life_line.ok()) return life_line.status();
    life_line_.emplace(*std::move(life_line));
    if (absl::Status status = dispatcher_->Serve(*std::move(port), attach.workers, &*life_line_,
                                                 std::move(notifications));
        !status.ok()) {
      return status;
    }
    return control_.Send(MakeStarted({.generation = attach.generation,
                                      .callbacks = library_->callbacks(),
                                      .descriptors = library_->descriptors(),
                                      .notifications = library_->notifications(),
                                      .driver_version = library_->description().version}));
  }

  void SendLog() {
    LogQueue::Line line;
    // Bounded: a driver that floods its log must not keep the control loop from answering.
    for (size_t i = 0; i < LogQueue::kLinesMax && log_->Front(&line); ++i) {
      if (!control_
               .Send(MakeLogLine(static_cast<wire::LogLevel>(line.level), line.text, line.number,
                                 line.time_ns, line.dropped))
               .ok()) {
        return log_->Drop();
      }
      log_->Pop();
    }
  }

  int Loop() {
    for (;;) {
      pollfd ready[] = {{control_.fd(), POLLIN, 0}, {log_->fd(), POLLIN, 0}};
      if (poll(ready, 2, -1) < 0 && errno != EINTR)
        return Alone(absl::ErrnoToStatus(errno, "poll"));
      if ((ready[1].revents & POLLIN) != 0) SendLog();
      if (ready[0].revents == 0) continue;
      absl::StatusOr<ControlMessage> message = control_.Receive(0);
      if (absl::IsDeadlineExceeded(message.status())) continue;
      if (!message.ok()) return Alone(message.status());
      if (const auto* ping = message->as<wire::Ping>()) {
        (void)control_.Send(MakePong(ping->number(), dispatcher_->calls(), log_->dropped()));
      } else if (const auto* serve = message->as<wire::Serve>(); serve != nullptr && !serves_) {
        attach_.generation = serve->generation();
        if (absl::Status status = TakeChannel(*message, 0); !status.ok()) return Alone(status);
        if (absl::Status status = Serve(); !status.ok()) return NotStarted(status);
      } else if (message->as<wire::Drain>() != nullptr) {
        dispatcher_->Finish();
        SendLog();
        return EXIT_SUCCESS;
      } else {
        log_->Post(BULKHEAD_LOG_WARNING,
                   absl::StrCat("the host ignores the message ", message->name()));
      }
    }
  }

  ControlSocket control_;
  std::optional<SharedMemory> log_memory_;
  std::optional<LogQueue> log_;  // from Attach on
  AttachFields attach_;
  bool serves_ = false;
  const HostTransportKind* transport_ = nullptr;
  HostDescriptors channel_;  // these three until it serves
  UniqueFd notifications_;   // may be absent
  UniqueFd life_line_file_;
  std::optional<DriverLibrary> library_;
  std::optional<SharedMemory> checkpoint_memory_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<LifeLine> life_line_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

constexpr char kHelp[] =
    "Usage: bulkhead-host [--control-fd N]\n\n"
    "Runs one driver for its supervisor, which speaks to it over a Unix seqpacket socket that it\n"
    "inherits as descriptor N (3). It is started by bulkhead, not by hand.\n";

int Main(int argc, char** argv) {
  int control = 3;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      std::fputs(kHelp, stdout);
      return EXIT_SUCCESS;
    }
    char* end = nullptr;
    if (word != "--control-fd" || i + 1 == argc ||
        (control = static_cast<int>(std::strtol(argv[++i], &end, 10)),
         *end != '\0' || control < 3)) {
      std::fprintf(stderr, "bulkhead-host: cannot use argument '%s'\n%s",
                   argv[std::min(i, argc - 1)], kHelp);
      return kExitUsage;
    }
  }
  if (fcntl(control, F_SETFD, FD_CLOEXEC) != 0) {
    std::fprintf(stderr,
                 "bulkhead-host: descriptor %d is not open; this program is started by bulkhead, "
                 "not by hand\n",
                 control);
    return kExitUsage;
  }
  CloseOthers(control);
  ControlSocket socket{UniqueFd(control)};
  EndOnSignals();
  if (absl::Status status = socket.Send(MakeHello(BH_ABI_VERSION, BULKHEAD_DRIVER_ABI));
      !status.ok()) {
    return Alone(status);
  }
  Life life(std::move(socket));
  const int code = life.Run();
  // A worker may still be in its driver when the supervisor has died: nothing that it uses may be
  // destroyed.
  std::fflush(nullptr);
  _exit(code);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) { return bulkhead::Main(argc, argv); }
