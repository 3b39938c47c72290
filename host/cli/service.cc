// SPDX-License-Identifier: Apache-2.0
#include "host/cli/service.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/cli/event_text.h"
#include "ipc/abi/names.h"
#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kServesWithinNs = 30 * kNanosecondsPerSecond;

constexpr bh_action kActions[] = {
#define BH_ROW(id, NAME, name, doc) BH_ACTION_##NAME,
    BH_FOR_EACH_ACTION(BH_ROW)
#undef BH_ROW
};

std::string Actions() {
  return absl::StrJoin(kActions, ", ", [](std::string* out, bh_action action) {
    out->append(bh_action_name(action));
  });
}

// 0: there is no such action.
uint32_t ActionNamed(const std::string& name) {
  for (const bh_action action : kActions) {
    if (name == bh_action_name(action)) return action;
  }
  return 0;
}

// "hold", "deny", "cached,deny" …: what to do, and what to do when that gives no verdict.
std::string ParseRule(const std::string& text, bh_rule* rule) {
  const size_t comma = text.find(',');
  const std::string action = text.substr(0, comma);
  rule->action = static_cast<uint8_t>(ActionNamed(action));
  if (rule->action == 0) return "'" + action + "' is not an action (" + Actions() + ")";
  rule->fallback = rule->action == BH_ACTION_DENY ? BH_ACTION_DENY : BH_ACTION_ALLOW;
  if (comma == std::string::npos) return "";
  const std::string fallback = text.substr(comma + 1);
  rule->fallback = static_cast<uint8_t>(ActionNamed(fallback));
  if (bh_rule_valid(rule) == 0) {
    return "after the comma comes allow or deny, not '" + fallback + "'";
  }
  return "";
}

void AddPolicyOption(CLI::App& app, bh_reason reason, const char* when, bh_policy& policy) {
  app.add_option_function<std::string>(
         absl::StrCat("--on-", bh_reason_name(reason)),
         [reason, &policy](const std::string& text) {
           bh_rule rule = {};
           if (const std::string wrong = ParseRule(text, &rule); !wrong.empty()) {
             throw CLI::ValidationError(wrong);
           }
           for (auto& rules : policy.rule) rules[reason] = rule;
         },
         absl::StrCat("The answer when ", when, " (", Actions(),
                      "); ',deny' after hold or cached for when that gives no verdict"))
      ->type_name("ANSWER");
}

uint64_t ParseDuration(const std::string& text) {
  const std::map<std::string, double> units = {{"ms", 1e6}, {"s", 1e9}, {"", 1e9}, {"m", 60e9}};
  size_t used = 0;
  double value = -1;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
  }
  const auto unit = units.find(text.substr(std::min(used, text.size())));
  if (unit == units.end() || !(value > 0) || value * unit->second > 3600e9) {
    throw CLI::ValidationError("'" + text + "' is no time up to an hour: 500ms, 5s, 2m");
  }
  return static_cast<uint64_t>(value * unit->second);
}

absl::StatusOr<DriverConfig> Configure(const std::string& name, const ServiceOptions& options) {
  absl::StatusOr<Manifest> manifest = FindDriver(name, DriverSearchFolders());
  if (!manifest.ok()) return manifest.status();
  DriverConfig config;
  config.manifest = *manifest;
  const bool has_content = manifest->content_required || !manifest->content_default.empty();
  if (has_content) {
    config.content_folder = options.rules;
    if (options.rules.empty() && !manifest->content_default.empty()) {
      config.content_folder = manifest->folder + "/" + manifest->content_default;
    }
  }
  const uint32_t cpus = std::max(1u, std::thread::hardware_concurrency());
  config.channel.altitude = manifest->altitude;
  config.channel.paths = manifest->paths;
  config.channel.geometry = {.lanes = std::min(cpus, BH_LANES_MAX),
                             .slots_per_lane = 32,
                             .call_chunks = 32 * std::min(cpus, BH_LANES_MAX),
                             .reply_chunks = 0};
  // A ring is memory: 1 MiB.
  config.channel.notify_entries = manifest->notifications != 0 ? 2048 : 0;
  config.channel.policy = options.policy;
  config.channel.cache_entries = options.cache_entries;
  config.channel.spin_ns = options.spin_us * 1000;
  config.options = options.driver_options;
  return config;
}

}  // namespace

void AddServiceOptions(CLI::App& app, ServiceOptions& options) {
  app.add_option("--driver", options.drivers, "A driver by name, or its folder; may be repeated")
      ->allow_extra_args(false)
      ->required()
      ->type_name("NAME|DIR");
  app.add_option("--rules", options.rules, "Folder with the drivers' content")->type_name("DIR");
  app.add_option_function<std::string>(
         "--deadline",
         [&options](const std::string& text) { options.deadline_ns = ParseDuration(text); },
         "The longest that a caller waits: 500ms, 5s (default), 2m")
      ->type_name("TIME");
  app.add_option(
      "--cache", options.cache_entries,
      "Verdicts to remember for each driver, a power of two; 0 asks the driver each time");
  app.add_option(
         "--spin", options.spin_us,
         "Microseconds that callers and the drivers' workers spin at most before they sleep")
      ->check(CLI::Range(0, 10'000))
      ->capture_default_str();
  app.add_option("--driver-options", options.driver_options,
                 "Words for the drivers, after those of their manifests")
      ->type_name("TEXT");
#define BH_ROW(id, NAME, name, doc) AddPolicyOption(app, BH_REASON_##NAME, doc, options.policy);
  BH_FOR_EACH_REASON(BH_ROW)
#undef BH_ROW
}

absl::StatusOr<std::unique_ptr<Service>> Service::Start(const Program& program,
                                                        const ServiceOptions& options,
                                                        ShimLink* link,
                                                        const std::string& attachment) {
  // Hosts run as the same user: one that got past its filter must not open our /proc/PID/mem.
  BULKHEAD_CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
  absl::StatusOr<TemporaryFolder> folder = TemporaryFolder::Create();
  if (!folder.ok()) return folder.status();
  std::unique_ptr<Service> service(new Service(*std::move(folder)));
  service->spawner_ = std::make_unique<ProcessSpawner>(program.HostPath());
  Supervisor::Options wanted;
  wanted.link = link;
  wanted.spawner = service->spawner_.get();
  wanted.run_folder = service->folder_.path();
  wanted.attachment = attachment;
  wanted.limits = options.limits;
  wanted.now_ns = program.now_ns;
  wanted.chance = program.chance;
  wanted.on_event = options.on_event;
  service->supervisor_ = std::make_unique<Supervisor>(std::move(wanted));
  for (const std::string& name : options.drivers) {
    absl::StatusOr<DriverConfig> config = Configure(name, options);
    if (!config.ok()) return config.status();
    if (absl::Status status = service->supervisor_->AddDriver(*config); !status.ok()) return status;
    service->names_.push_back(config->manifest.name);
  }
  if (absl::Status status = service->supervisor_->Start(); !status.ok()) return status;
  for (const std::string& name : service->names_) {
    absl::Status status =
        service->supervisor_->WaitUntilServing(name, program.now_ns() + kServesWithinNs);
    if (!status.ok()) return status;
  }
  return service;
}

void PrintEvent(const DriverEvent& event) {
  std::fprintf(stderr, "%s\n", EventLine(event).c_str());
}

}  // namespace bulkhead
