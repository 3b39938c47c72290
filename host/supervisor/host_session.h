// SPDX-License-Identifier: Apache-2.0
//
// HostSession: everything about one host process: its control socket, its error output, its exit,
// its heartbeat and the files that it is given. It decides nothing; Driver does.
//
// Nothing here waits: reads and writes that would block are given up.
//
// Threads: the supervisor's loop only.
#ifndef BULKHEAD_HOST_SUPERVISOR_HOST_SESSION_H_
#define BULKHEAD_HOST_SUPERVISOR_HOST_SESSION_H_

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/exit_watcher.h"
#include "host/supervisor/host_record.h"
#include "host/supervisor/idle_watch.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/release.h"
#include "host/supervisor/spawner.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/shared_memory.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// What a host sent, checked and copied.
struct HostHello {
  uint32_t abi_version;
};
struct HostSandboxed {
  SandboxFields fields;
};
struct HostReady {
  uint32_t generation;
};
struct HostStarted {
  StartedFields fields;
};
struct HostStartFailed {
  std::string reason;
};
struct HostLogLine {
  DriverEvent::Level level;
  std::string text;
  uint64_t time_ns = 0;  // CLOCK_REALTIME, as the host says
  uint64_t dropped = 0;  // lines right before it that found no room
};
struct HostBadMessage {  // hostile; no more is read from it
  std::string error;
};
using HostMessage = std::variant<HostHello, HostSandboxed, HostReady, HostStarted, HostStartFailed,
                                 HostLogLine, HostBadMessage>;

struct HeartbeatLimits {
  uint64_t every_ns = 1'000'000'000;  // idle hosts are not pinged: idle_watch.h
  uint64_t missed_ns = 5'000'000'000;
};

class HostSession {
 public:
  // Starts a process that waits until LetRun().
  static absl::StatusOr<std::unique_ptr<HostSession>> Start(Spawner* spawner, Role role,
                                                            uint32_t generation,
                                                            std::shared_ptr<const Release> release);
  // Goes on with a host that serves, of which a supervisor before this one has left `record` and
  // `descriptors` (HostDescriptor). It may have ended meanwhile, which is seen as ever.
  static absl::StatusOr<std::unique_ptr<HostSession>> Adopt(Spawner* spawner,
                                                            const HostRecord& record,
                                                            std::vector<UniqueFd> descriptors,
                                                            std::shared_ptr<const Release> release,
                                                            uint64_t now_ns);
  HostSession(const HostSession&) = delete;
  HostSession& operator=(const HostSession&) = delete;

  // What a supervisor after this one goes on with. REQUIRES: it serves.
  void FillRecord(HostRecord& record) const;
  // In the order of HostDescriptor, without a checkpoint.
  std::vector<int> Descriptors() const;

  Role role() const { return role_; }
  uint32_t generation() const { return generation_; }
  const Release& release() const { return *release_; }
  pid_t pid() const { return child_.pid; }
  int pidfd() const { return child_.pidfd.get(); }
  const std::string& group() const { return child_.group.name(); }
  Spawner& spawner() { return *spawner_; }

  absl::Status LetRun() { return spawner_->LetRun(child_); }
  void Kill() { spawner_->Kill(child_); }
  // Sends Attach; but for a standby with the regions, and files of this host's own. `checkpoint`
  // below 0: none.
  absl::Status Attach(AttachFields fields, const ChannelDescriptors& regions, int checkpoint);
  // The standby is the active host now, as this generation; it does not know yet.
  void TakeOver(uint32_t generation);
  // Tells it, with the regions and files.
  absl::Status Serve(const ChannelDescriptors& regions);
  absl::Status SendDrain() { return Send(MakeDrain(generation_)); }

  // Whether it was given the channel.
  bool has_channel() const { return shim_files_.valid(); }
  bool listens() const { return control_.connected(); }
  // No more is read from it.
  void StopListening() { control_.Close(); }
  // The next message, if there is one. Pongs are taken in.
  std::optional<HostMessage> NextMessage(uint64_t now_ns, int& messages_left);
  void ReadErrorOutput();
  // Lines of the error output that were not taken before, made printable; `all`: also one that has
  // no end yet.
  std::vector<std::string> TakeErrorLines(bool all);
  // What it had logged and not sent: by their level, and how many were dropped behind the last one.
  // Once, when it ends.
  std::pair<std::vector<HostLogLine>, uint64_t> TakeUnsentLog();
  // The last line of the error output, made printable.
  std::string LastErrorLine() const;

  // From Started on: `on_end` is called from another thread when every thread that serves the
  // driver has ended. False: there is no thread to watch it.
  bool WatchExit(std::function<void()> on_end);
  void StopWatchingExit() { exit_watcher_.reset(); }
  // How the process is ending, as the kernel says; none while it is not.
  std::optional<ChildExit> Ending() { return spawner_->Ending(child_); }
  bool HasExited() const;
  // REQUIRES: HasExited().
  ChildExit Exit() { return spawner_->Exit(child_); }
  // The process, when its session is over.
  ChildProcess TakeChild() { return std::move(child_); }

  void StartHeartbeat(uint64_t now_ns);
  uint64_t next_heartbeat_ns(const HeartbeatLimits& limits) const {
    return heartbeats_ ? pinged_ns_ + limits.every_ns : kForeverNs;
  }
  // Pings when it is time. False: the host has missed its heartbeat.
  bool Heartbeat(uint64_t now_ns, const HeartbeatLimits& limits);

  // The shim's end of the socket for files.
  absl::StatusOr<UniqueFd> ShimFiles() const { return shim_files_.Duplicate(); }

  // What its first Sandboxed said, from before its driver was loaded.
  std::optional<SandboxFields> sandbox;
  // What Started said, restricted to the manifest's.
  bh_generation_spec wanted = {};
  std::string driver_version;

  void AddPollFds(std::vector<pollfd>& fds) const;

 private:
  HostSession(Spawner* spawner, Role role, uint32_t generation,
              std::shared_ptr<const Release> release)
      : spawner_(spawner), role_(role), generation_(generation), release_(std::move(release)) {}
  // Adds the descriptors of a channel to those of a message. They are `regions`' and
  // `host_files`'s.
  absl::Status AddChannel(const ChannelDescriptors& regions, UniqueFd& host_files,
                          std::vector<int>& with);
  // A line as it came, from a message or from the log's memory.
  HostLogLine Heard(uint32_t level, std::string text, uint64_t number, uint64_t time_ns,
                    uint64_t dropped);
  void AddErrorText(std::string_view text);
  absl::Status Send(const ControlBuffer& message, absl::Span<const int> with = {}) {
    return control_.Send(message, with, /*until_ns=*/0);
  }

  Spawner* const spawner_;
  Role role_;
  uint32_t generation_;
  const std::shared_ptr<const Release> release_;
  ChildProcess child_;
  ControlSocket control_;
  UniqueFd shim_files_;
  UniqueFd life_line_file_;                    // for a supervisor after this one
  std::optional<LifeLine> life_line_;          // until WatchExit
  std::unique_ptr<ExitWatcher> exit_watcher_;  // from then on
  std::string error_tail_;
  std::string error_line_;  // that has no end yet
  std::vector<std::string> error_lines_;
  uint64_t error_lines_left_out_ = 0;
  SharedMemory log_memory_;   // its driver's log; the host's to write
  uint64_t log_heard_ = 0;    // the number of the last line that has come
  uint64_t log_dropped_ = 0;  // lines that were dropped before it
  bool heartbeats_ = false;
  uint64_t pinged_ns_ = 0;  // when the last ping was sent, or was not needed
  uint64_t heard_ns_ = 0;   // when the host last sent anything, or was idle
  IdleWatch idle_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_HOST_SESSION_H_
