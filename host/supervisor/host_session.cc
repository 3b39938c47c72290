// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_session.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "ipc/control/host_protocol.h"
#include "ipc/log_ring_unsafe.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr size_t kErrorTailBytesMax = 4096;
constexpr size_t kLastLineBytesMax = 256;
constexpr size_t kErrorLineBytesMax = 1024;
constexpr size_t kErrorLinesMax = 256;  // that wait to be taken
// A look takes so much of the error output; an end takes all that a pipe can hold.
constexpr int kErrorReadsMax = 80;

DriverEvent::Level LevelOf(uint32_t level) {
  switch (static_cast<wire::LogLevel>(level)) {
    case wire::LogLevel::Error:
      return DriverEvent::Level::kError;
    case wire::LogLevel::Warning:
      return DriverEvent::Level::kWarning;
    case wire::LogLevel::Debug:
      return DriverEvent::Level::kDebug;
    default:
      return DriverEvent::Level::kInfo;
  }
}

// A host can't bring this about: its filter of system calls refuses ptrace(2), and no other process
// of its user's may be one's that is not.
bool IsTraced(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  constexpr std::string_view kTracer = "TracerPid:";
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kTracer)) continue;
    return line.find_first_of("123456789", kTracer.size()) != line.npos;
  }
  return false;
}

std::string PrintableLine(std::string line) {
  const auto unprintable = [](char letter) {
    return !absl::ascii_isprint(static_cast<unsigned char>(letter));
  };
  std::replace_if(line.begin(), line.end(), unprintable, '?');
  return line;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostSession>> HostSession::Start(
    Spawner* spawner, Role role, uint32_t generation, std::shared_ptr<const Release> release) {
  absl::StatusOr<std::pair<ControlSocket, ControlSocket>> sockets = ControlSocket::Pair();
  if (!sockets.ok()) return sockets.status();
  std::unique_ptr<HostSession> session(
      new HostSession(spawner, role, generation, std::move(release)));
  session->control_ = std::move(sockets->first);
  absl::StatusOr<ChildProcess> child =
      spawner->Spawn(sockets->second.Release(), session->release_->driver.Limits());
  if (!child.ok()) return child.status();
  session->child_ = *std::move(child);
  return session;
}

absl::StatusOr<std::unique_ptr<HostSession>> HostSession::Adopt(
    Spawner* spawner, const HostRecord& record, std::vector<UniqueFd> descriptors,
    std::shared_ptr<const Release> release, uint64_t now_ns) {
  if (descriptors.size() < kHostDescriptors) {
    return absl::InvalidArgumentError("descriptors of its host are missing");
  }
  absl::StatusOr<UniqueFd> line_copy = descriptors[kHostLifeLine].Duplicate();
  if (!line_copy.ok()) return line_copy.status();
  absl::StatusOr<LifeLine> line = LifeLine::Attach(std::move(descriptors[kHostLifeLine]));
  if (!line.ok()) return line.status();
  absl::StatusOr<SharedMemory> log =
      SharedMemory::MapChecked(std::move(descriptors[kHostLog]), LogRing::kBytes,
                               SharedMemory::Access::kReadWrite, F_SEAL_SEAL);
  if (!log.ok()) return log.status();
  std::unique_ptr<HostSession> session(
      new HostSession(spawner, Role::kActive, record.generation, std::move(release)));
  session->child_ = OpenLeftChild(record.pid, std::move(descriptors[kHostPidfd]));
  session->child_.error_output = std::move(descriptors[kHostErrorOutput]);
  session->child_.group = spawner->FindGroup(record.group);
  session->child_.group_lacks = record.group_lacks;
  session->child_.processes_lack = record.processes_lack;
  session->control_ = ControlSocket(std::move(descriptors[kHostControl]));
  session->shim_files_ = std::move(descriptors[kHostFiles]);
  session->life_line_file_ = *std::move(line_copy);
  session->life_line_.emplace(*std::move(line));
  session->log_memory_ = *std::move(log);
  // Lines that were told before are told once; what is in the socket still comes.
  const LogRing::Left told =
      LogRing::ReadLeft({session->log_memory_.data(), session->log_memory_.bytes()}, 0);
  if (!told.lines.empty()) session->log_heard_ = told.lines.back().number;
  session->log_dropped_ = told.dropped;
  session->wanted = record.wanted;
  session->driver_version = record.driver_version;
  session->sandbox = record.sandbox;
  session->StartHeartbeat(now_ns);
  session->idle_.IgnoreBelow(now_ns);  // a ping has its time as its number
  return session;
}

void HostSession::FillRecord(HostRecord& record) const {
  record.generation = generation_;
  record.pid = child_.pid;
  record.group = child_.group.name();
  record.group_lacks = child_.group_lacks;
  record.processes_lack = child_.processes_lack;
  record.wanted = wanted;
  record.driver_version = driver_version;
  record.sandbox = sandbox.value_or(SandboxFields());
}

std::vector<int> HostSession::Descriptors() const {
  std::vector<int> descriptors(kHostDescriptors);
  descriptors[kHostPidfd] = child_.pidfd.get();
  descriptors[kHostControl] = control_.fd();
  descriptors[kHostFiles] = shim_files_.get();
  descriptors[kHostLifeLine] = life_line_file_.get();
  descriptors[kHostLog] = log_memory_.fd().get();
  // In the place of one that its driver has closed, one that nothing is read from.
  descriptors[kHostErrorOutput] =
      child_.error_output.valid() ? child_.error_output.get() : child_.pidfd.get();
  return descriptors;
}

absl::Status HostSession::AddChannel(const ChannelDescriptors& regions, UniqueFd& host_files,
                                     std::vector<int>& with) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  shim_files_.reset(ends[0]);
  host_files.reset(ends[1]);
  with.insert(with.end(),
              {regions.call_region.get(), regions.reply_region.get(), host_files.get()});
  if (regions.notification_region.valid()) with.push_back(regions.notification_region.get());
  return absl::OkStatus();
}

absl::Status HostSession::Attach(AttachFields fields, const ChannelDescriptors& regions,
                                 int checkpoint) {
  absl::StatusOr<LifeLine> life_line = LifeLine::Create();
  if (!life_line.ok()) return life_line.status();
  absl::StatusOr<UniqueFd> line_copy = life_line->fd().Duplicate();
  if (!line_copy.ok()) return line_copy.status();
  life_line_file_ = *std::move(line_copy);
  life_line_.emplace(*std::move(life_line));
  absl::StatusOr<SharedMemory> log = SharedMemory::Create("bulkhead-log", LogRing::kBytes);
  if (!log.ok()) return log.status();
  for (const absl::Status& status : {log->SealAgainstResize(), log->SealForGood()}) {
    if (!status.ok()) return status;
  }
  log_memory_ = *std::move(log);
  const int line = life_line_->fd().get();
  // A place for the checkpoint even without one: a message has its number of descriptors.
  std::vector<int> with = {line, checkpoint >= 0 ? checkpoint : line, log_memory_.fd().get()};
  UniqueFd host_files;
  if (!fields.standby) {
    if (absl::Status status = AddChannel(regions, host_files, with); !status.ok()) return status;
  }
  fields.generation = generation_;
  fields.group = child_.group.name();
  fields.group_lacks = child_.group_lacks;
  fields.processes_lack = child_.processes_lack;
  return Send(MakeAttach(fields), with);
}

void HostSession::TakeOver(uint32_t generation) {
  role_ = Role::kActive;
  generation_ = generation;
}

absl::Status HostSession::Serve(const ChannelDescriptors& regions) {
  std::vector<int> with;
  UniqueFd host_files;
  if (absl::Status status = AddChannel(regions, host_files, with); !status.ok()) return status;
  return Send(MakeServe(generation_), with);
}

std::optional<HostMessage> HostSession::NextMessage(uint64_t now_ns, int& messages_left) {
  while (control_.connected() && messages_left > 0) {
    // A host has no descriptors to send, and closing one may take as long as its file system needs.
    const absl::StatusOr<ControlMessage> message = control_.ReceiveWithoutDescriptors(0);
    if (absl::IsDeadlineExceeded(message.status())) return std::nullopt;
    if (!message.ok()) {
      control_.Close();
      if (absl::IsUnavailable(message.status())) return std::nullopt;  // its exit will be seen
      return HostBadMessage{std::string(message.status().message())};
    }
    heard_ns_ = now_ns;
    --messages_left;
    if (const auto* pong = message->as<wire::Pong>()) {
      if (idle_.Answered(pong->number())) continue;
      control_.Close();  // one line about it, however many follow
      return HostBadMessage{absl::StrCat("Pong ", pong->number(), " answers no Ping")};
    }
    if (const auto* hello = message->as<wire::Hello>()) {
      return HostHello{hello->abi_version()};
    } else if (const auto* sandboxed = message->as<wire::Sandboxed>()) {
      return HostSandboxed{ReadSandboxed(*sandboxed)};
    } else if (const auto* ready = message->as<wire::Ready>()) {
      return HostReady{ready->generation()};
    } else if (const auto* started = message->as<wire::Started>()) {
      absl::StatusOr<StartedFields> fields = ReadStarted(*started);
      if (!fields.ok()) return HostBadMessage{std::string(fields.status().message())};
      return HostStarted{*std::move(fields)};
    } else if (const auto* failed = message->as<wire::StartFailed>()) {
      return HostStartFailed{failed->reason()->str()};
    } else if (const auto* line = message->as<wire::LogLine>()) {
      return Heard(static_cast<uint32_t>(line->level()), line->text()->str(), line->number(),
                   line->time_ns(), line->dropped());
    } else {
      control_.Close();
      return HostBadMessage{absl::StrCat(message->name(), " is no message of a host's")};
    }
  }
  return std::nullopt;
}

void HostSession::ReadErrorOutput() {
  std::array<char, 1024> text;
  for (int i = 0; i < kErrorReadsMax && child_.error_output.valid(); ++i) {
    const ssize_t bytes = read(child_.error_output.get(), text.data(), text.size());
    if (bytes < 0) return;  // nothing there
    if (bytes == 0) {       // every writer is gone: not to be polled
      child_.error_output.reset();
      return;
    }
    error_tail_.append(text.data(), static_cast<size_t>(bytes));
    AddErrorText({text.data(), static_cast<size_t>(bytes)});
    if (error_tail_.size() > kErrorTailBytesMax) {
      error_tail_.erase(0, error_tail_.size() - kErrorTailBytesMax);
    }
  }
}

std::string HostSession::LastErrorLine() const {
  std::string text = error_tail_;
  absl::StripTrailingAsciiWhitespace(&text);
  return PrintableLine(text.substr(text.rfind('\n') + 1, kLastLineBytesMax));
}

HostLogLine HostSession::Heard(uint32_t level, std::string text, uint64_t number, uint64_t time_ns,
                               uint64_t dropped) {
  log_heard_ = std::max(log_heard_, number);
  const uint64_t before = std::exchange(log_dropped_, std::max(log_dropped_, dropped));
  return {.level = LevelOf(level),
          .text = std::move(text),
          .time_ns = time_ns,
          .dropped = log_dropped_ - before};
}

std::pair<std::vector<HostLogLine>, uint64_t> HostSession::TakeUnsentLog() {
  LogRing::Left left = LogRing::ReadLeft({log_memory_.data(), log_memory_.bytes()}, log_heard_);
  std::vector<HostLogLine> lines;
  for (LogRing::Line& line : left.lines) {
    lines.push_back(
        Heard(line.level, std::move(line.text), line.number, line.time_ns, line.dropped));
  }
  const uint64_t behind = left.dropped > log_dropped_ ? left.dropped - log_dropped_ : 0;
  log_memory_ = SharedMemory();
  return {std::move(lines), behind};
}

// A line that is longer, or more of them than the loop takes, are cut: the pipe's other end is a
// driver's.
void HostSession::AddErrorText(std::string_view text) {
  for (const char letter : text) {
    if (letter != '\n') {
      if (error_line_.size() < kErrorLineBytesMax) error_line_ += letter;
      continue;
    }
    if (error_lines_.size() == kErrorLinesMax) {
      error_lines_.erase(error_lines_.begin());  // the last ones are what explains an end
      ++error_lines_left_out_;
    }
    if (!error_line_.empty()) error_lines_.push_back(PrintableLine(error_line_));
    error_line_.clear();
  }
}

std::vector<std::string> HostSession::TakeErrorLines(bool all) {
  if (all) AddErrorText("\n");
  std::vector<std::string> lines = std::exchange(error_lines_, {});
  if (const uint64_t left_out = std::exchange(error_lines_left_out_, 0); left_out != 0) {
    lines.insert(lines.begin(), absl::StrCat("... (", left_out, " lines before were left out)"));
  }
  return lines;
}

bool HostSession::WatchExit(std::function<void()> on_end) {
  if (!life_line_) return true;
  exit_watcher_ = ExitWatcher::Start(*std::move(life_line_), std::move(on_end));
  life_line_.reset();
  return exit_watcher_ != nullptr;
}

bool HostSession::HasExited() const {
  pollfd exited = {child_.pidfd.get(), POLLIN, 0};
  return poll(&exited, 1, 0) == 1;
}

void HostSession::StartHeartbeat(uint64_t now_ns) {
  heartbeats_ = true;
  heard_ns_ = pinged_ns_ = now_ns;
  idle_ = {};
}

bool HostSession::Heartbeat(uint64_t now_ns, const HeartbeatLimits& limits) {
  if (!heartbeats_ || now_ns < next_heartbeat_ns(limits)) return true;
  const std::optional<uint64_t> sleeps = spawner_->SleepCount(child_);
  if (idle_.Idle(sleeps)) {
    heard_ns_ = pinged_ns_ = now_ns;
    return true;
  }
  if (now_ns - heard_ns_ > limits.missed_ns) {
    if (!IsTraced(child_.pid)) return false;
    heard_ns_ = now_ns;  // a debugger holds it
  }
  pinged_ns_ = now_ns;
  idle_.Pinged(now_ns, sleeps);
  (void)Send(MakePing(now_ns));  // a host that does not read will miss its heartbeat
  return true;
}

void HostSession::AddPollFds(std::vector<pollfd>& fds) const {
  for (const int fd : {child_.pidfd.get(), control_.fd(), child_.error_output.get()}) {
    if (fd >= 0) fds.push_back({fd, POLLIN, 0});
  }
}

}  // namespace bulkhead
