// SPDX-License-Identifier: Apache-2.0
#include "host/cli/service_log.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/cli/bounded_write.h"
#include "host/cli/event_text.h"
#include "host/cli/program.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr char kClearLine[] = "\r\033[K";
constexpr std::chrono::seconds kFlushWithin(1);
constexpr uint64_t kLookNs = 100 * kNanosecondsPerMillisecond;  // whether the end has come

}  // namespace

// ---- Writing

struct ServiceLog::State {
  int fd = -1;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> lines;
  std::string status;  // to be shown last; empty: nothing new
  uint64_t dropped = 0;
  bool writing = false;
  bool ends = false;   // what nobody reads is not waited for
  bool ended = false;  // the thread writes no more

  bool empty() const { return lines.empty() && status.empty() && dropped == 0; }
  // The oldest line; how many were dropped stands behind all that wait.
  std::string Next();
};

std::string ServiceLog::State::Next() {
  if (!lines.empty()) {
    std::string line = std::move(lines.front());
    lines.pop_front();
    return line;
  }
  if (dropped == 0) return std::exchange(status, "");
  return absl::StrCat("bulkhead: ", std::exchange(dropped, 0),
                      " lines were dropped: standard error was not read\n");
}

// Whoever does not read keeps this thread, and nobody else.
void ServiceLog::Write(const std::shared_ptr<State>& state) {
  std::unique_lock<std::mutex> lock(state->mutex);
  for (;;) {
    state->changed.wait(lock, [&] { return !state->empty() || state->ends; });
    if (state->empty()) break;
    const std::string text = state->Next();
    std::string_view rest = text;
    state->writing = true;
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

ServiceLog::ServiceLog(bool quiet, int fd)
    : quiet_(quiet),
      terminal_(!quiet && isatty(fd) == 1),
      state_(std::make_shared<State>()),
      writer_([state = state_, fd] {
        state->fd = fd;
        Write(state);
      }) {}

ServiceLog::~ServiceLog() {
  if (terminal_) Say("");
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

void ServiceLog::Say(const std::string& text) {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (state_->lines.size() >= kLinesMax) {
      ++state_->dropped;
      return;
    }
    state_->lines.push_back(
        absl::StrCat(terminal_ ? kClearLine : "", text, text.empty() ? "" : "\n"));
  }
  state_->changed.notify_all();
}

// ---- What is said

void ServiceLog::Event(const DriverEvent& event) {
  if (quiet_ && event.kind != DriverEventKind::kLetThrough) return;
  if (event.kind != DriverEventKind::kLog) return Say(EventLine(event));
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto [limit, made] = limits_.try_emplace(
      event.driver, [this](const std::string& line) { Say(line); }, kDriverLinesMax, kDriverTimeNs,
      event.driver + ": ");
  limit->second.Log(EventLine(event), MonotonicNowNs());
}

void ServiceLog::Text(const std::string& text) {
  if (!quiet_) Warn(text);
}

void ServiceLog::Warn(const std::string& text) { Say("bulkhead: " + Printable(text)); }

void ServiceLog::Show(const StatusFields& status, uint64_t events, double seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [driver, limit] : limits_) limit.TellLeftOut(MonotonicNowNs());
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
