// SPDX-License-Identifier: Apache-2.0
#include "host/cli/status.h"

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/types/span.h"
#include "host/cli/instances.h"
#include "host/cli/program.h"
#include "host/cli/text_output.h"
#include "host/report/report.h"
#include "host/service/printable.h"
#include "host/service/status_json.h"
#include "host/store/descriptor_store.h"
#include "host/supervisor/instance.h"
#include "ipc/abi/names.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "ipc/statistics.h"

namespace bulkhead {
namespace {

// "5 by policy (2 absent, 3 hung)": the number before the name, '_' as a blank.
std::string CounterText(const StatisticRow& row, absl::Span<const uint64_t> words) {
  uint64_t sum = 0;
  std::string parts;
  for (uint32_t part = 0; part < row.count; ++part) {
    const uint64_t number = words[row.first + part];
    sum += number;
    if (row.part_name == nullptr || number == 0) continue;
    absl::StrAppend(&parts, parts.empty() ? " (" : ", ", number, " ", row.part_name(part));
  }
  if (!parts.empty()) parts += ")";
  return absl::StrCat(sum, " ", absl::StrReplaceAll(row.name, {{"_", " "}}), parts);
}

void PrintCounters(const TextOutput& out, const bh_statistics& statistics, StatisticGroup group) {
  std::string line;
  for (const StatisticRow& row : kStatistics) {
    if (row.group != group) continue;
    absl::StrAppend(&line, line.empty() ? "    " : ", ", CounterText(row, WordsOf(statistics)));
  }
  out.Print("%s\n", line.c_str());
}

void PrintLatency(const TextOutput& out, const bh_statistics& statistics) {
  const absl::Span<const uint64_t> parts(statistics.took);
  uint64_t timed = 0;
  for (const uint64_t count : parts) timed += count;
  if (timed == 0) return;
  out.Print("    of %lu timed calls half took %s, 99 %% %s, 99.9 %% %s, all %s\n",
            static_cast<unsigned long>(timed), LatencyText(LatencyQuantile(parts, 0.5)).c_str(),
            LatencyText(LatencyQuantile(parts, 0.99)).c_str(),
            LatencyText(LatencyQuantile(parts, 0.999)).c_str(),
            LatencyText(LatencyQuantile(parts, 1)).c_str());
}

// A shim that is silent for so long does not answer, and `status` fails.
constexpr uint64_t kShimSilentMs = 1000;
// Nor does one that has not answered this request: Supervisor::Status() waits that long for it.
constexpr uint64_t kCountersOldMs = 750;

void PrintProtection(const TextOutput& out, const std::string& what,
                     const ProtectionFields& protection) {
  out.Print("%sprotection %s\n", what.c_str(), bh_protection_name(protection.level));
  for (const std::string& reason : protection.reasons) {
    out.Print("      %s\n", Printable(reason).c_str());
  }
}

// Nothing of what is enforced, as all is by default.
const char* ModeText(bh_mode mode) { return mode == BH_MODE_AUDIT ? "mode audit, " : ""; }

// Before its first host has said so there is none.
void PrintSandbox(const TextOutput& out, const DriverStatusFields& driver) {
  if (driver.sandbox_layers == 0 && driver.sandbox_lacks.empty()) return;
  out.Print("    sandbox %s\n", bh_sandbox_level_name(bh_sandbox_level_of(driver.sandbox_layers)));
  for (const std::string& lack : driver.sandbox_lacks) {
    out.Print("      lacks %s\n", Printable(lack).c_str());
  }
}

// Of the attachment: those that have counted something.
void PrintCounts(const TextOutput& out, const std::vector<CounterFields>& counters) {
  std::string line;
  for (const CounterFields& counter : counters) {
    if (counter.value == 0) continue;
    absl::StrAppend(&line, line.empty() ? "" : ", ",
                    absl::StrReplaceAll(Printable(counter.name), {{"_", " "}}), " ", counter.value);
  }
  if (!line.empty()) out.Print("  counted: %s\n", line.c_str());
}

}  // namespace

int ShowStatus(const std::string& json, bool check) {
  const TextOutput out(json);
  const Instances instances = FindInstances();
  const bool none = instances.answered.empty() && instances.silent.empty();
  if (none) out.Print("no instance of bulkhead runs (or none that this user may see)\n");
  int code = none || !instances.silent.empty() ? kExitFailed : kExitOk;
  nlohmann::ordered_json unsupervised = nlohmann::ordered_json::array();
  for (const LeftStore& left : LeftStores(RunFolder())) {
    code = kExitFailed;
    unsupervised.push_back(
        {{"config", left.config_path},
         {"for_ms", (MonotonicNowNs() - left.left_ns) / kNanosecondsPerMillisecond}});
    const std::string config = Printable(left.config_path);
    out.Print(
        "a bulkheadd with configuration %s is gone for %lu s, and its hosts and guards serve on: "
        "start it again, or end them with `bulkheadd --release --config %s`\n",
        config.c_str(),
        static_cast<unsigned long>((MonotonicNowNs() - left.left_ns) / kNanosecondsPerSecond),
        config.c_str());
  }
  Report report("status");
  report.AddInfo("instances", static_cast<double>(instances.answered.size()), "");
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& [path, status] : instances.answered) {
    out.Print("pid %u, %s, up %lu s, shim %u (incarnation %u)\n", status.pid,
              status.attachment.c_str(), static_cast<unsigned long>(status.uptime_ms / 1000),
              status.shim_pid, status.shim_incarnation);
    if (!status.config_path.empty()) {
      out.Print("  configuration %s\n", Printable(status.config_path).c_str());
    }
    for (const GuardStatusFields& guard : status.guards) {
      PrintProtection(
          out, absl::StrCat("  guards ", Printable(guard.folder), ": ", ModeText(guard.mode)),
          guard.protection);
      if (guard.losses != 0) {
        out.Print("      was found to be gone %lu times\n",
                  static_cast<unsigned long>(guard.losses));
      }
      if (check && guard.protection.level != BH_PROTECTION_FULL) code = kExitFailed;
    }
    if (check && status.guards.empty()) {
      out.Print("  guards nothing\n");
      code = kExitFailed;
    }
    PrintCounts(out, status.counters);
    for (const DriverStatusFields& driver : status.drivers) {
      const std::string process = driver.pid == 0 ? "no process" : absl::StrCat("pid ", driver.pid);
      out.Print("  %s %s: %s, generation %u, %s, content %lu (good: %lu%s), %lu restarts%s%s\n",
                Printable(driver.name).c_str(), Printable(driver.version).c_str(),
                Printable(driver.state).c_str(), driver.generation, process.c_str(),
                static_cast<unsigned long>(driver.content_version),
                static_cast<unsigned long>(driver.last_known_good),
                driver.content_loading == 0
                    ? ""
                    : absl::StrCat("; ", driver.content_loading, " is loading").c_str(),
                static_cast<unsigned long>(driver.restarts),
                driver.last_end.empty() ? "" : ", last: ", Printable(driver.last_end).c_str());
      PrintProtection(out, absl::StrCat("    ", ModeText(driver.mode)), driver.protection);
      PrintSandbox(out, driver);
      if (check && driver.protection.level != BH_PROTECTION_FULL) code = kExitFailed;
      if (driver.shim_silent_ms >= kShimSilentMs) {
        out.Print("    the shim has not answered for %lu ms\n",
                  static_cast<unsigned long>(driver.shim_silent_ms));
        code = kExitFailed;
      }
      if (!driver.shim_error.empty()) {
        out.Print("    error of the shim: %s\n", Printable(driver.shim_error).c_str());
        code = kExitFailed;
      }
      if (driver.statistics_age_ms >= kCountersOldMs) {
        out.Print("    the numbers below are %lu ms old\n",
                  static_cast<unsigned long>(driver.statistics_age_ms));
        code = kExitFailed;
      }
      PrintCounters(out, driver.statistics, StatisticGroup::CALLS);
      PrintLatency(out, driver.statistics);
      if (driver.statistics.notified != 0) {
        PrintCounters(out, driver.statistics, StatisticGroup::NOTIFICATIONS);
      }
    }
    list.push_back(StatusJson(status));
  }
  if (json.empty()) return code;
  report.SetDetail("running", list);
  report.SetDetail("unsupervised", unsupervised);
  nlohmann::ordered_json silent = nlohmann::ordered_json::array();
  for (const auto& [pid, error] : instances.silent) {
    silent.push_back({{"instance", pid}, {"error", error}});
  }
  report.SetDetail("silent", silent);
  const absl::Status written = report.WriteJson(json);
  return written.ok() ? code : Complain(written);
}

}  // namespace bulkhead
