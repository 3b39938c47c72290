// SPDX-License-Identifier: Apache-2.0
#include "host/cli/service_options.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/cli/event_text.h"
#include "ipc/abi/names.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

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

// What ParseRule makes the same rule of.
std::string RuleText(const bh_rule& rule) {
  std::string action = bh_action_name(rule.action);
  if (rule.action == BH_ACTION_ALLOW || rule.action == BH_ACTION_DENY) return action;
  return absl::StrCat(action, ",", bh_action_name(rule.fallback));
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
      ->type_name("ANSWER")
      ->default_str(RuleText(policy.rule[BH_CLASS_FILE][reason]));
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

}  // namespace

std::string NamesAFolder(const std::string& text) {
  return text.empty() ? "an empty name is no folder" : "";
}

void AddServiceOptions(CLI::App& app, ServiceOptions& options) {
  app.add_option("--driver", options.drivers, "A driver by name, or its folder; may be repeated")
      ->allow_extra_args(false)
      ->required()
      ->type_name("NAME|DIR");
  app.add_option("--rules", options.each.content_folder, "Folder with the drivers' content")
      ->check(NamesAFolder)
      ->type_name("DIR");
  app.add_option_function<std::string>(
         "--deadline",
         [&options](const std::string& text) { options.deadline_ns = ParseDuration(text); },
         "The longest that a caller waits: 500ms, 5s, 2m")
      ->type_name("TIME")
      ->default_str(absl::StrCat(static_cast<double>(options.deadline_ns) / 1e9, "s"));
  app.add_option(
         "--cache", options.each.cache_entries,
         "Verdicts to remember for each driver, a power of two; 0 asks the driver each time")
      ->capture_default_str();
  app.add_option(
         "--spin", options.each.spin_us,
         "Microseconds that callers and the drivers' workers spin at most before they sleep")
      ->check(CLI::Range(0u, ServiceDriver::kSpinUsMax))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--quarantine-retry",
         [&options](const std::string& text) {
           options.limits.retry_ns = text == "never" ? 0 : ParseDuration(text);
         },
         "When a quarantined driver is started again by itself, and after twice as long each "
         "further time; never: by `bulkhead release` or new content only")
      ->type_name("TIME|never")
      ->default_str(absl::StrCat(options.limits.retry_ns / kNanosecondsPerSecond, "s"));
  app.add_option("--driver-options", options.each.options,
                 "Words for the drivers, after those of their manifests")
      ->type_name("TEXT");
#define BH_ROW(id, NAME, name, doc) \
  AddPolicyOption(app, BH_REASON_##NAME, doc, options.each.policy);
  BH_FOR_EACH_REASON(BH_ROW)
#undef BH_ROW
}

ServiceConfig ConfigOf(const ServiceOptions& options) {
  ServiceConfig config;
  for (const std::string& name : options.drivers) {
    config.drivers.push_back(options.each);
    config.drivers.back().driver = name;
  }
  config.limits = options.limits;
  return config;
}

Service::Environment EnvironmentOf(const Program& program, const ServiceOptions& options) {
  return {.host_program = program.HostPath(),
          .now_ns = program.now_ns,
          .chance = program.chance,
          .on_event = options.on_event,
          .interrupted = program.interrupted};
}

absl::StatusOr<std::unique_ptr<Service>> StartService(const Program& program,
                                                      const ServiceOptions& options,
                                                      std::shared_ptr<ShimLink> link,
                                                      const std::string& attachment) {
  const ServiceConfig config = ConfigOf(options);
  if (absl::Status status = CheckConfig(config, "--"); !status.ok()) return status;
  return Service::Start(EnvironmentOf(program, options), config, std::move(link), attachment);
}

void PrintEvent(const DriverEvent& event) {
  std::fprintf(stderr, "%s\n", EventLine(event).c_str());
}

}  // namespace bulkhead
