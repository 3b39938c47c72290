// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_log.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/service/bounded_write.h"
#include "host/service/event_fields.h"
#include "host/service/printable.h"
#include "ipc/abi/names.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr char kClearLine[] = "\r\033[K";
constexpr std::chrono::seconds kFlushWithin(1);
constexpr uint64_t kLookNs = 100 * kNanosecondsPerMillisecond;  // whether the end has come

// A line of the service's own, which is no event.
EventFields OwnLine(const std::string& text, wire::LogLevel level) {
  return {.at_us = WallClockUs(), .level = level, .line = "bulkhead: " + Printable(text)};
}

int PriorityOf(wire::LogLevel level) {
  switch (level) {
    case wire::LogLevel::Debug:
      return LOG_DEBUG;
    case wire::LogLevel::Info:
      return LOG_INFO;
    case wire::LogLevel::Warning:
      return LOG_WARNING;
    case wire::LogLevel::Error:
      break;
  }
  return LOG_ERR;
}

// Whether systemd made this descriptor a stream into its journal, as it says in the environment.
bool IsTheJournals(int fd) {
  struct stat status = {};
  const char* stream = getenv("JOURNAL_STREAM");
  return stream != nullptr && fstat(fd, &status) == 0 &&
         absl::StrCat(status.st_dev, ":", status.st_ino) == stream;
}

// A quiet service says it, too.
bool KeepsFromProtecting(const DriverEvent& event) {
  return event.kind == DriverEventKind::kLetThrough ||
         event.kind == DriverEventKind::kReloadRefused ||
         (event.kind == DriverEventKind::kProtection && event.number != BH_PROTECTION_FULL);
}

// False: there is no journal.
bool SendToJournal(const EventFields& event) {
  std::vector<std::string> fields = {absl::StrCat("MESSAGE=", event.line),
                                     absl::StrCat("PRIORITY=", PriorityOf(event.level)),
                                     "SYSLOG_IDENTIFIER=bulkhead"};
  const auto text = [&fields](const char* name, const std::string& value) {
    if (!value.empty()) fields.push_back(absl::StrCat(name, "=", value));
  };
  const auto number = [&fields](const char* name, uint64_t value) {
    if (value != 0) fields.push_back(absl::StrCat(name, "=", value));
  };
  text("BULKHEAD_EVENT", event.kind);
  text("BULKHEAD_DRIVER", event.driver);
  number("BULKHEAD_GENERATION", event.generation);
  number("BULKHEAD_HOST_PID", event.pid);
  number("BULKHEAD_CONTENT", event.content);
  number("BULKHEAD_CALL_ID", event.call_id);
  number("BULKHEAD_NUMBER", event.number);
  if (event.denied_by == 0) text("BULKHEAD_TEXT", event.text);
  if (event.denied_by != 0) {
    const bool audited = event.audited != 0;
    text("BULKHEAD_MODE", bh_mode_name(audited ? BH_MODE_AUDIT : BH_MODE_ENFORCE));
    text("BULKHEAD_AUDITED", AuditedText(event.audited));
    text("BULKHEAD_CALLBACK", bh_callback_name(event.callback));
    text("BULKHEAD_DENIED_BY", bh_denied_by_name(event.denied_by));
    if (event.denied_by == BH_DENIED_BY_POLICY)
      text("BULKHEAD_REASON", bh_reason_name(event.reason));
    text("BULKHEAD_RULE", event.rule);
    number("BULKHEAD_ERRNO", event.error);
    number("BULKHEAD_DEVICE", event.device);
    number("BULKHEAD_INODE", event.inode);
    text("BULKHEAD_PATH", event.path);
    number("BULKHEAD_CALLER_PID", event.caller_pid);
    if (event.caller_uid != UINT32_MAX) text("BULKHEAD_CALLER_UID", absl::StrCat(event.caller_uid));
    text("BULKHEAD_CALLER_COMM", event.comm);
    text("BULKHEAD_CALLER_EXE", event.exe);
  }
  std::vector<iovec> parts;
  for (std::string& field : fields) parts.push_back({field.data(), field.size()});
  return sd_journal_sendv(parts.data(), static_cast<int>(parts.size())) == 0;
}

}  // namespace

// ---- Writing

struct ServiceLog::State {
  int fd = -1;
  std::mutex mutex;
  std::condition_variable changed;
  LogFormat format = LogFormat::kText;
  std::string line_begin;  // of a terminal: removes the status
  std::deque<EventFields> lines;
  std::string status;  // to be shown last; empty: nothing new
  uint64_t dropped = 0;
  bool writing = false;
  bool ends = false;   // what nobody reads is not waited for
  bool ended = false;  // the thread writes no more

  bool empty() const { return lines.empty() && status.empty() && dropped == 0; }
  // The oldest; how many were dropped stands behind all that wait. False: the status is next.
  bool Next(EventFields& fields);
};

bool ServiceLog::State::Next(EventFields& fields) {
  if (!lines.empty()) {
    fields = std::move(lines.front());
    lines.pop_front();
    return true;
  }
  if (dropped == 0) return false;
  fields = OwnLine(
      absl::StrCat(std::exchange(dropped, 0), " lines were dropped: standard error was not read"),
      wire::LogLevel::Warning);
  return true;
}

// Whoever does not read keeps this thread, and nobody else.
void ServiceLog::Write(const std::shared_ptr<State>& state) {
  std::unique_lock<std::mutex> lock(state->mutex);
  for (;;) {
    state->changed.wait(lock, [&] { return !state->empty() || state->ends; });
    if (state->empty()) break;
    EventFields fields;
    const bool line = state->Next(fields);
    std::string text = line ? "" : std::exchange(state->status, "");
    state->writing = true;
    if (line && state->format == LogFormat::kJournal) {
      lock.unlock();
      const bool sent = SendToJournal(fields);
      lock.lock();
      if (sent) {
        state->writing = false;
        state->changed.notify_all();
        continue;
      }
    }
    if (line) {
      text = state->format == LogFormat::kJson
                 ? absl::StrCat(EventJson(fields), "\n")
                 : absl::StrCat(state->line_begin, fields.line, fields.line.empty() ? "" : "\n");
    }
    std::string_view rest = text;
    WriteResult result = WriteResult::kNotYet;
    while (result == WriteResult::kNotYet && !state->ends) {
      lock.unlock();
      result = WriteUntil(state->fd, rest, MonotonicAfterNs(kLookNs));
      lock.lock();
    }
    state->writing = false;
    if (result == WriteResult::kNotYet) break;
    state->changed.notify_all();
  }
  state->ended = true;
  state->changed.notify_all();
}

ServiceLog::ServiceLog(bool quiet, int fd, LogFormat format)
    : quiet_(quiet),
      format_(format != LogFormat::kAuto ? format
              : IsTheJournals(fd)        ? LogFormat::kJournal
                                         : LogFormat::kText),
      terminal_(!quiet && format_ == LogFormat::kText && isatty(fd) == 1),
      state_(std::make_shared<State>()),
      writer_([state = state_, fd, format = format_, terminal = terminal_] {
        state->fd = fd;
        state->format = format;
        if (terminal) state->line_begin = kClearLine;
        Write(state);
      }) {}

ServiceLog::~ServiceLog() {
  TellRepeats(kForeverNs);
  if (terminal_) Push({});
  Flush();
  bool ended = false;
  {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->ends = true;
    state_->changed.notify_all();
    ended = state_->changed.wait_for(lock, kFlushWithin, [this] { return state_->ended; });
  }
  // A terminal whose output is stopped may hold it; it has nothing of this object's.
  ended ? writer_.join() : writer_.detach();
}

bool ServiceLog::Flush() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return state_->changed.wait_for(lock, kFlushWithin, [this] {
    return (state_->empty() && !state_->writing) || state_->ended;
  });
}

void ServiceLog::Push(EventFields fields) {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (state_->lines.size() >= kLinesMax) {
      ++state_->dropped;
      return;
    }
    state_->lines.push_back(std::move(fields));
  }
  state_->changed.notify_all();
}

void ServiceLog::Say(EventFields fields) {
  const uint64_t now_ns = MonotonicNowNs();
  {
    const std::lock_guard<std::mutex> lock(said_mutex_);
    if (said_.line == fields.line && said_.kind == fields.kind && said_.level == fields.level) {
      ++repeats_;
      said_ = std::move(fields);
      return;
    }
  }
  TellRepeats(kForeverNs);
  const std::lock_guard<std::mutex> lock(said_mutex_);
  said_ = fields;
  said_ns_ = now_ns;
  Push(std::move(fields));
}

// Those of a line that has not come for a while, or of which the last count is old.
void ServiceLog::TellRepeats(uint64_t now_ns) {
  const std::lock_guard<std::mutex> lock(said_mutex_);
  if (repeats_ == 0 || (now_ns != kForeverNs && now_ns - said_ns_ < kRepeatsToldNs)) return;
  EventFields fields = said_;
  fields.line = absl::StrCat(said_.line, " (", std::exchange(repeats_, 0), " times more)");
  said_ns_ = now_ns;
  Push(std::move(fields));
}

// ---- What is said

void ServiceLog::Event(const DriverEvent& event) {
  if (quiet_ && !KeepsFromProtecting(event)) return;
  EventFields fields = FieldsOf(event, WallClockUs());
  const bool own_words = event.kind == DriverEventKind::kLog ||
                         event.kind == DriverEventKind::kLogDropped ||
                         event.kind == DriverEventKind::kWrote;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (own_words) {
    DriverWords& words = WordsOf(event.driver);
    passing_ = std::move(fields);
    if (words.limit.Log(passing_.line, MonotonicNowNs())) {
      words.left_out.clear();  // what follows them was said
      return;
    }
    words.left_out.push_back(passing_);
    if (words.left_out.size() > kLastLinesMax) words.left_out.pop_front();
    return;
  }
  // What a driver said right before its end may be why.
  if (event.kind == DriverEventKind::kEnded) {
    for (EventFields& line : std::exchange(WordsOf(event.driver).left_out, {})) {
      Say(std::move(line));
    }
  }
  Say(std::move(fields));
}

ServiceLog::DriverWords& ServiceLog::WordsOf(const std::string& driver) {
  const auto found = words_.find(driver);
  if (found != words_.end()) return found->second;
  LogLimit limit(
      [this](const std::string& line) {
        // Else it counts what was left out.
        Say(line == passing_.line ? passing_ : EventFields{.at_us = WallClockUs(), .line = line});
      },
      kDriverLinesMax, kDriverTimeNs, driver + ": ");
  return words_.emplace(driver, DriverWords{std::move(limit), {}}).first->second;
}

void ServiceLog::Text(const std::string& text) {
  if (!quiet_) Say(OwnLine(text, wire::LogLevel::Info));
}

void ServiceLog::Warn(const std::string& text) { Say(OwnLine(text, wire::LogLevel::Warning)); }

void ServiceLog::Show(const StatusFields& status, uint64_t events, double seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [driver, words] : words_) words.limit.TellLeftOut(MonotonicNowNs());
  TellRepeats(MonotonicNowNs());
  if (!terminal_) return;
  std::string text = absl::StrFormat(
      "%s%.0f calls/s", kClearLine,
      static_cast<double>(events - std::exchange(events_before_, events)) / seconds);
  for (const DriverStatusFields& driver : status.drivers) {
    absl::StrAppend(&text, " | ", Printable(driver.name), ": ", Printable(driver.state), ", g",
                    driver.generation, ", ", driver.restarts, " restarts");
  }
  const std::lock_guard<std::mutex> state_lock(state_->mutex);
  state_->status = std::move(text);
  state_->changed.notify_all();
}

}  // namespace bulkhead
