// SPDX-License-Identifier: Apache-2.0
#include "host/cli/top_screen.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/service/event_fields.h"
#include "host/service/printable.h"
#include "ipc/abi/names.h"
#include "ipc/monotonic.h"
#include "ipc/statistics.h"

namespace bulkhead {
namespace {

constexpr size_t kEventsMax = 500;
constexpr size_t kEventRowsMin = 5;  // of a screen that has more to show than fits

TopStyle StyleOf(bh_protection level) {
  switch (level) {
    case BH_PROTECTION_FULL:
      return TopStyle::kGood;
    case BH_PROTECTION_DEGRADED:
      return TopStyle::kWarning;
    default:
      return TopStyle::kBad;
  }
}

TopStyle StyleOf(wire::LogLevel level) {
  switch (level) {
    case wire::LogLevel::Warning:
      return TopStyle::kWarning;
    case wire::LogLevel::Error:
      return TopStyle::kBad;
    default:
      return TopStyle::kPlain;
  }
}

bh_protection LevelOf(const StatusFields& status) {
  bh_protection level = status.guards.empty() ? BH_PROTECTION_NONE : BH_PROTECTION_FULL;
  for (const auto& guard : status.guards) level = std::min(level, guard.protection.level);
  for (const auto& driver : status.drivers) level = std::min(level, driver.protection.level);
  return level;
}

std::string UptimeText(uint64_t ms) {
  const uint64_t seconds = ms / 1000, minutes = seconds / 60, hours = minutes / 60;
  if (hours >= 24) return absl::StrFormat("%dd %02d:%02d", hours / 24, hours % 24, minutes % 60);
  return absl::StrFormat("%d:%02d:%02d", hours, minutes % 60, seconds % 60);
}

// "12", "1.2k", "3.4M": six characters at most.
std::string RateText(double rate) {
  if (rate < 10'000) return absl::StrFormat("%.0f", rate);
  if (rate < 1'000'000) return absl::StrFormat("%.1fk", rate / 1000);
  return absl::StrFormat("%.1fM", rate / 1'000'000);
}

// The level, and the first reason where it is not full. What is audited is so at first sight.
std::string ProtectionText(const ProtectionFields& protection, bh_mode mode) {
  std::string text =
      absl::StrCat(mode == BH_MODE_AUDIT ? "AUDIT, " : "", bh_protection_name(protection.level));
  if (!protection.reasons.empty()) absl::StrAppend(&text, ": ", protection.reasons.front());
  return text;
}

using Took = std::array<uint64_t, BH_LATENCY_COUNT>;

// Nothing where a count is lower than it was: it started again.
Took Added(const Took& before, const Took& now) {
  Took added = {};
  for (size_t part = 0; part < now.size(); ++part) {
    if (now[part] < before[part]) return {};
    added[part] = now[part] - before[part];
  }
  return added;
}

uint64_t ByPolicy(const bh_statistics& statistics) {
  uint64_t sum = 0;
  for (const uint64_t count : statistics.by_policy) sum += count;
  return sum;
}

// Cuts between characters of UTF-8, which all but the first byte of each are 10xxxxxx.
std::string Cut(std::string text, size_t columns) {
  if (text.size() <= columns) return text;
  while (columns > 0 && (static_cast<unsigned char>(text[columns]) & 0xc0) == 0x80) --columns;
  text.resize(columns);
  return text;
}

}  // namespace

void TopScreen::Add(const std::vector<StatusFields>& instances,
                    const std::vector<std::pair<std::string, std::string>>& silent,
                    uint64_t now_ns) {
  const double seconds = static_cast<double>(now_ns - looked_ns_) / kNanosecondsPerSecond;
  std::map<Key, Counts> counts;
  rates_.clear();
  for (const StatusFields& status : instances) {
    for (const DriverStatusFields& driver : status.drivers) {
      const Key key(status.pid, driver.name);
      const Counts now = {driver.statistics.calls,
                          driver.statistics.denied + driver.statistics.would_deny,
                          ByPolicy(driver.statistics), std::to_array(driver.statistics.took)};
      const auto before = counts_.find(key);
      if (before != counts_.end() && seconds > 0) {
        const auto rate = [seconds](uint64_t from, uint64_t to) {
          return to < from ? 0 : static_cast<double>(to - from) / seconds;  // it started again
        };
        rates_[key] = {rate(before->second.calls, now.calls),
                       rate(before->second.denied, now.denied),
                       rate(before->second.by_policy, now.by_policy),
                       LatencyQuantile(Added(before->second.took, now.took), 0.99)};
      }
      counts[key] = now;
    }
  }
  counts_ = std::move(counts);
  looked_ns_ = now_ns;
  instances_ = instances;
  std::stable_sort(
      instances_.begin(), instances_.end(),
      [](const StatusFields& a, const StatusFields& b) { return LevelOf(a) < LevelOf(b); });
  silent_ = silent;
}

void TopScreen::Add(const EventFields& event) {
  events_.push_back(event);
  if (events_.size() > kEventsMax) events_.erase(events_.begin());
}

void TopScreen::AddInstance(const StatusFields& status, std::vector<TopLine>& lines) const {
  const bh_protection level = LevelOf(status);
  lines.push_back(
      {absl::StrFormat("pid %d  %s  up %s  protection %s", status.pid, status.attachment,
                       UptimeText(status.uptime_ms), bh_protection_name(level)),
       StyleOf(level)});
  lines.push_back(
      {absl::StrFormat("  %-16s %-12s %7s %7s %8s %6s %8s  %s", "DRIVER", "STATE", "CALLS/s",
                       "DENY/s", "POLICY/s", "P99", "RESTARTS", "PROTECTION"),
       TopStyle::kHeading});
  for (const DriverStatusFields& driver : status.drivers) {
    const auto found = rates_.find(Key(status.pid, driver.name));
    const Rate rate = found == rates_.end() ? Rate() : found->second;
    lines.push_back(
        {absl::StrFormat("  %-16.16s %-12.12s %7s %7s %8s %6s %8d  %s", driver.name, driver.state,
                         RateText(rate.calls), RateText(rate.denied), RateText(rate.by_policy),
                         LatencyText(rate.p99), driver.restarts,
                         ProtectionText(driver.protection, driver.mode)),
         StyleOf(driver.protection.level)});
  }
  std::vector<GuardStatusFields> guards = status.guards;
  std::stable_sort(guards.begin(), guards.end(),
                   [](const GuardStatusFields& a, const GuardStatusFields& b) {
                     return a.protection.level < b.protection.level;
                   });
  for (const GuardStatusFields& guard : guards) {
    lines.push_back({absl::StrCat("  guards ", guard.folder, ": ",
                                  ProtectionText(guard.protection, guard.mode)),
                     StyleOf(guard.protection.level)});
  }
}

std::vector<TopLine> TopScreen::Lines(size_t rows, size_t columns) const {
  std::vector<TopLine> lines;
  for (const auto& [instance, why] : silent_) {
    lines.push_back(
        {absl::StrCat("instance ", instance, " does not answer: ", why), TopStyle::kBad});
  }
  for (const StatusFields& status : instances_) AddInstance(status, lines);
  if (lines.empty()) {
    lines.push_back(
        {"no instance of bulkhead runs (or none that this user may see)", TopStyle::kBad});
  }
  const size_t for_events = std::min(rows, std::min(events_.size() + 1, kEventRowsMin));
  if (lines.size() + for_events > rows) lines.resize(rows - for_events);
  if (!events_.empty() && lines.size() < rows) {
    lines.push_back({"EVENTS", TopStyle::kHeading});
    const size_t fit = std::min(events_.size(), rows - lines.size());
    for (size_t i = events_.size() - fit; i < events_.size(); ++i) {
      const EventFields& event = events_[i];
      // The time of the day; the date is in the log.
      lines.push_back({absl::StrCat(TimeText(event.at_us).substr(11, 8), " ", event.line),
                       StyleOf(event.level)});
    }
  }
  for (TopLine& line : lines) line.text = Cut(Printable(line.text), columns);
  return lines;
}

}  // namespace bulkhead
