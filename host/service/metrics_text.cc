// SPDX-License-Identifier: Apache-2.0
#include "host/service/metrics_text.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/service/resident_bytes.h"
#include "ipc/abi/names.h"
#include "ipc/abi/sandbox.h"
#include "ipc/statistics.h"

namespace bulkhead {
namespace {

using Labels = std::vector<std::pair<const char*, std::string>>;

constexpr double kMillisecondsPerSecond = 1000;

// A value of a label: the format has three escapes.
std::string Escaped(const std::string& value) {
  std::string escaped;
  for (const char letter : value) {
    if (letter == '\\' || letter == '"') escaped.push_back('\\');
    letter == '\n' ? escaped.append("\\n") : escaped.append(1, letter);
  }
  return escaped;
}

// absl::StrCat() writes six digits of a number that is not whole: of an hour's seconds, no parts.
template <typename Number>
auto InFull(Number value) {
  if constexpr (std::is_floating_point_v<Number>) {
    return absl::StrFormat("%.15g", value);
  } else {
    return value;
  }
}

// Samples of one name belong together, below the name's two lines.
class Metrics {
 public:
  void Family(const std::string& name, const char* type, const std::string& help) {
    name_ = absl::StrCat("bulkhead_", name);
    absl::StrAppend(&text_, "# HELP ", name_, " ", help, "\n# TYPE ", name_, " ", type, "\n");
  }
  template <typename Number>
  void Sample(const Labels& labels, Number value, const char* suffix = "") {
    absl::StrAppend(&text_, name_, suffix);
    const char* separator = "{";
    for (const auto& [name, label] : labels) {
      absl::StrAppend(&text_, std::exchange(separator, ","), name, "=\"", Escaped(label), "\"");
    }
    absl::StrAppend(&text_, labels.empty() ? " " : "} ", InFull(value), "\n");
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string name_;
  std::string text_;
};

uint64_t Sum(const StatisticRow& row, const bh_statistics& statistics) {
  uint64_t sum = 0;
  for (const uint64_t word : WordsOf(statistics).subspan(row.first, row.count)) sum += word;
  return sum;
}

void AddCalls(Metrics& metrics, const StatusFields& status) {
  const auto sum_of = [](StatisticKind kind, const bh_statistics& statistics) {
    uint64_t sum = 0;
    for (const StatisticRow& row : kStatistics) {
      if (row.kind == kind) sum += Sum(row, statistics);
    }
    return sum;
  };
  metrics.Family("calls_started_total", "counter", "Calls that were started");
  for (const DriverStatusFields& driver : status.drivers) {
    metrics.Sample({{"driver", driver.name}}, sum_of(StatisticKind::STARTED, driver.statistics));
  }
  metrics.Family("calls_ended_total", "counter",
                 "Calls that ended, by outcome; of those that policy answered, by reason");
  for (const DriverStatusFields& driver : status.drivers) {
    for (const StatisticRow& row : kStatistics) {
      if (row.kind != StatisticKind::ENDED) continue;
      for (uint32_t part = 0; part < row.count; ++part) {
        metrics.Sample({{"driver", driver.name},
                        {"outcome", row.name},
                        {"reason", row.part_name == nullptr ? "" : row.part_name(part)}},
                       WordsOf(driver.statistics)[row.first + part]);
      }
    }
  }
  metrics.Family("calls_open", "gauge", "Calls that were started and have not ended");
  for (const DriverStatusFields& driver : status.drivers) {
    const uint64_t started = sum_of(StatisticKind::STARTED, driver.statistics);
    const uint64_t ended = sum_of(StatisticKind::ENDED, driver.statistics);
    metrics.Sample({{"driver", driver.name}}, started > ended ? started - ended : 0);
  }
}

void AddLatency(Metrics& metrics, const StatusFields& status) {
  constexpr double kSecondsPerNs = 1e-9;
  metrics.Family("call_seconds", "histogram",
                 "How long calls took that were timed, verdicts of the cache apart");
  for (const DriverStatusFields& driver : status.drivers) {
    uint64_t sum = 0;
    for (uint32_t part = 0; part < BH_LATENCY_COUNT; ++part) {
      sum += driver.statistics.took[part];
      const std::string bound =
          part + 1 < BH_LATENCY_COUNT
              ? absl::StrCat(static_cast<double>(bh_latency_bound_ns(part)) * kSecondsPerNs)
              : "+Inf";
      metrics.Sample({{"driver", driver.name}, {"le", bound}}, sum, "_bucket");
    }
    metrics.Sample({{"driver", driver.name}},
                   static_cast<double>(driver.statistics.took_ns) * kSecondsPerNs, "_sum");
    metrics.Sample({{"driver", driver.name}}, sum, "_count");
  }
}

// The rows that AddCalls() and AddLatency() leave.
void AddStatistics(Metrics& metrics, const StatusFields& status) {
  for (const StatisticRow& row : kStatistics) {
    const bool told = row.kind == StatisticKind::STARTED || row.kind == StatisticKind::ENDED;
    if (told || row.group == StatisticGroup::STATE || row.group == StatisticGroup::LATENCY) {
      continue;
    }
    const bool gauge = row.kind == StatisticKind::NOW;
    const char* of = row.group == StatisticGroup::CALLS ? "calls_" : "notifications_";
    metrics.Family(absl::StrCat(of, row.name, gauge ? "" : "_total"), gauge ? "gauge" : "counter",
                   row.doc);
    for (const DriverStatusFields& driver : status.drivers) {
      for (uint32_t part = 0; part < row.count; ++part) {
        Labels labels = {{"driver", driver.name}};
        if (row.part_name != nullptr) labels.emplace_back("cause", row.part_name(part));
        metrics.Sample(labels, WordsOf(driver.statistics)[row.first + part]);
      }
    }
  }
}

void AddProtection(Metrics& metrics, const StatusFields& status) {
  const auto level = [](const ProtectionFields& protection) {
    return static_cast<uint32_t>(protection.level);
  };
  metrics.Family("guard_protection", "gauge",
                 absl::StrCat("What a guard is worth now: ", BH_PROTECTION_NONE, " none, ",
                              BH_PROTECTION_DEGRADED, " degraded, ", BH_PROTECTION_FULL, " full"));
  for (const GuardStatusFields& guard : status.guards) {
    metrics.Sample({{"folder", guard.folder}}, level(guard.protection));
  }
  metrics.Family("guard_losses_total", "counter", "How often a guard was found to be gone");
  for (const GuardStatusFields& guard : status.guards) {
    metrics.Sample({{"folder", guard.folder}}, guard.losses);
  }
  metrics.Family("driver_protection", "gauge", "The same of a driver");
  for (const DriverStatusFields& driver : status.drivers) {
    metrics.Sample({{"driver", driver.name}}, level(driver.protection));
  }
  metrics.Family("guard_audited", "gauge", "1: what is denied there is recorded, and goes on");
  for (const GuardStatusFields& guard : status.guards) {
    metrics.Sample({{"folder", guard.folder}}, guard.mode == BH_MODE_AUDIT ? 1 : 0);
  }
  metrics.Family("driver_audited", "gauge", "1: what it denies is recorded, and goes on");
  for (const DriverStatusFields& driver : status.drivers) {
    metrics.Sample({{"driver", driver.name}}, driver.mode == BH_MODE_AUDIT ? 1 : 0);
  }
}

void AddDrivers(Metrics& metrics, const StatusFields& status) {
  const auto each = [&](const char* name, const char* type, const char* help, auto value) {
    metrics.Family(name, type, help);
    for (const DriverStatusFields& driver : status.drivers) {
      metrics.Sample({{"driver", driver.name}}, value(driver));
    }
  };
  using Fields = const DriverStatusFields&;
  each("driver_serving", "gauge", "1 while a host serves",
       [](Fields driver) { return driver.state == "serving" ? 1 : 0; });
  each("driver_quarantined", "gauge", "1 while it is quarantined",
       [](Fields driver) { return driver.state == "quarantined" ? 1 : 0; });
  each("driver_generation", "gauge", "The generation of its host",
       [](Fields driver) { return driver.generation; });
  each("driver_restarts_total", "counter", "Hosts that replaced another",
       [](Fields driver) { return driver.restarts; });
  each("driver_start_failures_total", "counter", "Hosts that did not start",
       [](Fields driver) { return driver.start_failures; });
  each("driver_content_version", "gauge", "The content that is in force; 0: none",
       [](Fields driver) { return driver.content_version; });
  each("driver_content_good_version", "gauge", "The newest content that passed its probation",
       [](Fields driver) { return driver.last_known_good; });
  each("driver_sandbox_level", "gauge", "Of its newest host: 0 none, 1 basic, 2 confined, 3 full",
       [](Fields driver) {
         return static_cast<uint32_t>(bh_sandbox_level_of(driver.sandbox_layers));
       });
  each("driver_counters_age_seconds", "gauge", "How old the numbers of calls are",
       [](Fields driver) {
         return static_cast<double>(driver.statistics_age_ms) / kMillisecondsPerSecond;
       });
}

void AddMemory(Metrics& metrics, const StatusFields& status) {
  metrics.Family("process_resident_bytes", "gauge", "Resident memory of the processes");
  for (const auto& [process, bytes] : ResidentBytes(status)) {
    metrics.Sample({{"process", process}}, bytes);
  }
}

}  // namespace

std::string MetricsText(const StatusFields& status, const std::map<std::string, uint64_t>& events) {
  Metrics metrics;
  metrics.Family("info", "gauge", "What runs");
  metrics.Sample({{"attachment", status.attachment}, {"config", status.config_path}}, 1);
  metrics.Family("uptime_seconds", "gauge", "Since the service started");
  metrics.Sample({}, static_cast<double>(status.uptime_ms) / kMillisecondsPerSecond);
  metrics.Family("shim_incarnation", "gauge", "Shims so far, the first is 1; 0: it has no process");
  metrics.Sample({}, status.shim_incarnation);
  AddProtection(metrics, status);
  AddDrivers(metrics, status);
  AddCalls(metrics, status);
  AddStatistics(metrics, status);
  AddLatency(metrics, status);
  metrics.Family("attachment_counts", "untyped", "What the attachment has counted");
  for (const CounterFields& counter : status.counters) {
    metrics.Sample({{"name", counter.name}}, counter.value);
  }
  metrics.Family("events_total", "counter", "What happened, by kind");
  for (const auto& [kind, count] : events) metrics.Sample({{"event", kind}}, count);
  AddMemory(metrics, status);
  return std::move(metrics).text();
}

}  // namespace bulkhead
