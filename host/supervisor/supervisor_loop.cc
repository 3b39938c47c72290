// SPDX-License-Identifier: Apache-2.0
//
// The supervisor's thread: what it waits for and reads. Control messages, error output and ends of
// hosts, timers, heartbeats, the shim's word and commands of other threads become the lifecycle's
// events here.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "host/supervisor/supervisor.h"
#include "host/supervisor/supervisor_driver.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using Kind = DriverEventKind;

constexpr size_t kErrorTailBytesMax = 4096;
constexpr size_t kLastLineBytesMax = 256;
constexpr int kMessagesAtOnceMax = 256;

// What a host wrote to standard error before it ended, for an operator's terminal: nothing but
// what can be printed.
std::string LastLine(std::string text) {
  absl::StripTrailingAsciiWhitespace(&text);
  std::string line = text.substr(text.rfind('\n') + 1, kLastLineBytesMax);
  const auto unprintable = [](char letter) {
    return !absl::ascii_isprint(static_cast<unsigned char>(letter));
  };
  std::replace_if(line.begin(), line.end(), unprintable, '?');
  return line;
}

}  // namespace

std::string Supervisor::Driver::NameOriginals(std::string text) const {
  for (const auto& [number, folder] : content_folders) {
    const std::string copy = content.Path(number);
    for (size_t at = 0; (at = text.find(copy, at)) != std::string::npos;) {
      const size_t end = at + copy.size();
      const bool is_another =  // 12 begins with 1
          end < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[end]));
      if (!is_another) text.replace(at, copy.size(), folder);
      at += is_another ? copy.size() : folder.size();
    }
  }
  return text;
}

void Supervisor::RunCommands() {
  uint64_t count;
  (void)!read(wake_.get(), &count, sizeof(count));
  std::deque<std::function<void()>> commands;
  {
    const std::lock_guard<std::mutex> lock(commands_mutex_);
    commands.swap(commands_);
  }
  for (const auto& command : commands) command();
}

uint64_t Supervisor::NextTimer() const {
  uint64_t next_ns = kForeverNs;
  for (const auto& driver : drivers_) {
    if (driver->timer_ns != 0) next_ns = std::min(next_ns, driver->timer_ns);
    if (driver->lifecycle->state() == State::kServing) {
      next_ns = std::min(next_ns, driver->ping_ns + options_.heartbeat_every_ns);
    }
  }
  return next_ns;
}

void Supervisor::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    RunCommands();
    const uint64_t now_ns = options_.now_ns();
    for (const auto& driver : drivers_) {
      if (driver->timer_ns != 0 && now_ns >= driver->timer_ns) {
        driver->timer_ns = 0;
        Step(*driver, {.kind = EventKind::kTimer});
      }
      Heartbeat(*driver, now_ns);
    }
    changed_.notify_all();
    if (stopping_ &&
        std::all_of(
            drivers_.begin(), drivers_.end(),
            [](const auto& driver) { return driver->lifecycle->state() == State::kStopped; }) &&
        leaving_.empty()) {
      return;
    }
    std::vector<pollfd> ready = {{wake_.get(), POLLIN, 0}};
    for (const auto& driver : drivers_) {
      if (!driver->child) continue;
      ready.push_back({driver->child->pidfd.get(), POLLIN, 0});
      ready.push_back({driver->control.fd(), POLLIN, 0});
      ready.push_back({driver->child->error_output.get(), POLLIN, 0});
    }
    for (const Leaving& one : leaving_) ready.push_back({one.child.pidfd.get(), POLLIN, 0});
    const uint64_t next_ns = NextTimer();
    timespec left = {};
    if (next_ns != kForeverNs) {
      const uint64_t span_ns = next_ns > now_ns ? next_ns - now_ns : 0;
      left = {static_cast<time_t>(span_ns / kNanosecondsPerSecond),
              static_cast<long>(span_ns % kNanosecondsPerSecond)};
    }
    lock.unlock();
    ppoll(ready.data(), ready.size(), next_ns == kForeverNs ? nullptr : &left, nullptr);
    lock.lock();
    for (const auto& driver : drivers_) Look(*driver);
    ReapLeaving();
  }
}

void Supervisor::Look(Driver& driver) {
  if (!driver.child) return;
  ReadErrorOutput(driver);
  ReadControl(driver);  // what it said before it died comes first
  pollfd dead = {driver.child ? driver.child->pidfd.get() : -1, POLLIN, 0};
  if (driver.child && poll(&dead, 1, 0) == 1) OnDeath(driver);
}

void Supervisor::ReadErrorOutput(Driver& driver) {
  std::array<char, 1024> text;
  for (int i = 0; i < 16; ++i) {
    const ssize_t bytes = read(driver.child->error_output.get(), text.data(), text.size());
    if (bytes < 0) return;  // nothing there
    if (bytes == 0) {       // nobody writes any more: not to be polled
      driver.child->error_output.reset();
      return;
    }
    driver.error_tail.append(text.data(), static_cast<size_t>(bytes));
    if (driver.error_tail.size() > kErrorTailBytesMax) {
      driver.error_tail.erase(0, driver.error_tail.size() - kErrorTailBytesMax);
    }
  }
}

void Supervisor::ReadControl(Driver& driver) {
  for (int i = 0; i < kMessagesAtOnceMax && driver.child && driver.control.connected(); ++i) {
    // No host has files for us, and to close one may take as long as its file system likes.
    absl::StatusOr<ControlMessage> message = driver.control.ReceiveWithoutDescriptors(0);
    const uint32_t generation = driver.lifecycle->generation();
    if (absl::IsDeadlineExceeded(message.status())) return;
    if (absl::IsUnavailable(message.status())) {  // it is about to be seen dead
      driver.control.Close();
      return;
    }
    if (!message.ok()) {
      Report(driver, Kind::kBadMessage, std::string(message.status().message()));
      Step(driver, {.kind = EventKind::kHostile, .generation = generation});
      driver.control.Close();
      return;
    }
    driver.heard_ns = options_.now_ns();
    if (message->as<wire::Hello>() != nullptr) {
      const auto* hello = message->as<wire::Hello>();
      if (hello->abi_version() != BH_ABI_VERSION) {
        driver.start_failure = absl::StrCat("bulkhead-host has channel ABI ", hello->abi_version(),
                                            ", bulkhead has ", BH_ABI_VERSION, ": mixed versions");
        Step(driver, {.kind = EventKind::kHostile, .generation = generation});
        continue;
      }
      Step(driver, {.kind = EventKind::kHello, .generation = generation});
    } else if (const auto* started = message->as<wire::Started>()) {
      if (started->generation() != generation) continue;
      OnStarted(driver, *started);
    } else if (const auto* failed = message->as<wire::StartFailed>()) {
      driver.start_failure = driver.NameOriginals(failed->reason()->str());
      Step(driver, {.kind = EventKind::kStartFailed, .generation = generation});
    } else if (const auto* pong = message->as<wire::Pong>()) {
      driver.rest.Answered(pong->number());
    } else if (const auto* line = message->as<wire::LogLine>()) {
      using Level = DriverEvent::Level;
      DriverEvent event = DriverEvent::Of(Kind::kLog);
      event.level = line->level() == wire::LogLevel::Error     ? Level::kError
                    : line->level() == wire::LogLevel::Warning ? Level::kWarning
                                                               : Level::kInfo;
      event.text = driver.NameOriginals(line->text()->str());
      Report(driver, std::move(event));
    }
  }
}

void Supervisor::OnStarted(Driver& driver, const wire::Started& started) {
  const uint32_t generation = started.generation();
  // What is left of one before it could still write over its answers.
  const auto writes = [&](const Leaving& one) {
    return one.of == &driver && !options_.spawner->HasLeft(one.child);
  };
  if (std::any_of(leaving_.begin(), leaving_.end(), writes)) {
    driver.start_failure = "the host before it hangs in the kernel and can't be ended yet";
    Step(driver, {.kind = EventKind::kStartFailed, .generation = generation});
    return;
  }
  driver.callbacks = started.callbacks() & driver.config.manifest.callbacks;
  driver.descriptors = started.descriptors() & driver.callbacks;
  driver.notifications = started.notifications() & driver.config.manifest.notifications;
  driver.version = started.driver_version() ? started.driver_version()->str() : "";
  if (driver.life_line) {
    driver.death_watch =
        DeathWatch::Start(*std::move(driver.life_line), [this, &driver, generation] {
          Post([this, &driver, generation] { OnEnding(driver, generation); });
        });
    driver.life_line.reset();
    if (driver.death_watch == nullptr) {
      Report(driver, Kind::kExitWatcherMissing);
    }
  }
  Step(driver, {.kind = EventKind::kStarted, .generation = generation});
}

// Nobody serves for this host any more. When the kernel says how it ends, that is the end of it for
// its calls, and the next one can start: its memory may take long to be given back.
void Supervisor::OnEnding(Driver& driver, uint32_t generation) {
  if (!driver.child || driver.lifecycle->generation() != generation) return;
  const std::optional<ChildExit> exit = options_.spawner->Ending(*driver.child);
  if (!exit) return;  // its pidfd will tell
  ReadErrorOutput(driver);
  ReadControl(driver);  // what it said before it died comes first
  if (!driver.child) return;
  options_.spawner->Kill(*driver.child);  // whatever is left of one that played dead
  driver.last_pid = driver.child->pid;
  leaving_.push_back({*std::exchange(driver.child, std::nullopt), &driver});
  Bury(driver, *exit);
}

void Supervisor::ReapLeaving() {
  const auto reap = [this](Leaving& one) {
    ChildProcess& child = one.child;
    pollfd dead = {child.pidfd.get(), POLLIN, 0};
    if (poll(&dead, 1, 0) != 1) return false;
    const pid_t pid = child.pid;
    (void)options_.spawner->Reap(child);
    (void)options_.link->Include(pid);
    return true;
  };
  leaving_.erase(std::remove_if(leaving_.begin(), leaving_.end(), reap), leaving_.end());
}

void Supervisor::OnDeath(Driver& driver) {
  const pid_t pid = driver.child->pid;
  const ChildExit exit = options_.spawner->Reap(*driver.child);
  (void)options_.link->Include(pid);
  if (driver.child->error_output.valid()) ReadErrorOutput(driver);
  driver.last_pid = pid;
  driver.child.reset();
  Bury(driver, exit);
}

void Supervisor::Bury(Driver& driver, const ChildExit& exit) {
  const uint64_t now_ns = options_.now_ns();
  if (driver.lifecycle->state() == State::kServing) driver.death_seen_ns = now_ns;
  driver.death_watch.reset();
  driver.life_line.reset();
  driver.control.Close();
  driver.shim_files.reset();
  driver.last_end = exit.text;
  if (const std::string line = LastLine(driver.error_tail); !line.empty()) {
    absl::StrAppend(&driver.last_end, "; it last wrote: ", driver.NameOriginals(line));
  }
  Step(driver, {.kind = EventKind::kExited,
                .generation = driver.lifecycle->generation(),
                .end = exit.end,
                .chance = options_.chance()});
}

void Supervisor::Heartbeat(Driver& driver, uint64_t now_ns) {
  if (driver.lifecycle->state() != State::kServing) return;
  if (now_ns < driver.ping_ns + options_.heartbeat_every_ns) return;
  const std::optional<uint64_t> sleeps =
      driver.child ? options_.spawner->SleepCount(*driver.child) : std::nullopt;
  if (driver.rest.Rests(sleeps)) {  // idle hosts are left asleep
    driver.heard_ns = driver.ping_ns = now_ns;
    return;
  }
  if (now_ns - driver.heard_ns > options_.heartbeat_missed_ns) {
    Report(driver, Kind::kHeartbeatMissed);
    Step(driver, {.kind = EventKind::kHung, .generation = driver.lifecycle->generation()});
    return;
  }
  driver.ping_ns = now_ns;
  driver.rest.Pinged(now_ns, sleeps);
  (void)driver.Tell(MakePing(now_ns));  // who does not read has missed its heartbeat soon enough
}

// ---- What the shim sees

void Supervisor::OnOverdue(ChannelId channel, uint32_t generation, uint64_t call_id) {
  Post([this, channel, generation, call_id] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr || driver->lifecycle->generation() != generation) return;
    DriverEvent event = DriverEvent::Of(Kind::kDeadlineMissed);
    event.call_id = call_id;
    Report(*driver, std::move(event));
    if (driver->lifecycle->state() == State::kServing) driver->death_seen_ns = options_.now_ns();
    Step(*driver, {.kind = EventKind::kHung, .generation = generation});
  });
}

void Supervisor::OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) {
  Post([this, channel, generation, violation] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr || driver->lifecycle->generation() != generation) return;
    DriverEvent event = DriverEvent::Of(Kind::kProtocolBroken);
    event.number = violation;
    Report(*driver, std::move(event));
    Step(*driver, {.kind = EventKind::kHostile, .generation = generation});
  });
}

void Supervisor::OnPoison(ChannelId channel, uint32_t generation, uint64_t call_id) {
  Post([this, channel, generation, call_id] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr) return;
    DriverEvent event = DriverEvent::Of(Kind::kCallQuarantined);
    event.generation = generation;
    event.call_id = call_id;
    Report(*driver, std::move(event));
  });
}

void Supervisor::OnTakeover(uint32_t incarnation, uint32_t adopted_calls) {
  Post([this, incarnation, adopted_calls] {
    shim_incarnation_ = incarnation;
    if (!options_.on_event) return;
    DriverEvent event = DriverEvent::Of(Kind::kShimReplaced);
    event.number = incarnation;
    event.adopted_calls = adopted_calls;
    options_.on_event(event);
  });
}

void Supervisor::OnShimLost() {
  Post([this] {
    if (options_.on_event) options_.on_event(DriverEvent::Of(Kind::kShimLost));
    for (const auto& driver : drivers_) {
      ChannelSpec spec = driver->config.channel;
      spec.driver = driver->config.manifest.name;
      if (absl::StatusOr<ChannelId> channel = options_.link->AddChannel(spec); channel.ok()) {
        driver->channel = *channel;
      }
      Step(*driver, {.kind = EventKind::kRestart});
    }
  });
}

}  // namespace bulkhead
