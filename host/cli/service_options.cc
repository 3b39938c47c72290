// SPDX-License-Identifier: Apache-2.0
#include "host/cli/service_options.h"

#include <cstdio>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/service/config_values.h"
#include "host/service/event_text.h"
#include "ipc/abi/names.h"

namespace bulkhead {
namespace {

template <typename T>
T OrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) throw CLI::ValidationError(std::string(value.status().message()));
  return *std::move(value);
}

void AddPolicyOption(CLI::App& app, bh_reason reason, const char* when, bh_policy& policy) {
  app.add_option_function<std::string>(
         absl::StrCat("--on-", bh_reason_name(reason)),
         [reason, &policy](const std::string& text) {
           const bh_rule rule = OrThrow(ParseRule(text));
           for (auto& rules : policy.rule) rules[reason] = rule;
         },
         absl::StrCat("The answer when ", when, " (", ActionList(),
                      "); ',deny' after hold or cached for when that gives no verdict"))
      ->type_name("ANSWER")
      ->default_str(RuleText(policy.rule[BH_CLASS_FILE][reason]));
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
  app.add_option("--content,--rules", options.each.content_folder,
                 "Folder with the drivers' content")
      ->check(NamesAFolder)
      ->type_name("DIR");
  app.add_option_function<std::string>(
         "--deadline",
         [&options](const std::string& text) {
           options.deadline_ns = OrThrow(ParseDuration(text));
         },
         "The longest that a caller waits: 500ms, 5s, 2m")
      ->type_name("TIME")
      ->default_str(DurationText(options.deadline_ns));
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
           options.limits.retry_ns = text == "never" ? 0 : OrThrow(ParseDuration(text));
         },
         "When a quarantined driver is started again by itself, and after twice as long each "
         "further time; never: by `bulkhead release` or new content only")
      ->type_name("TIME|never")
      ->default_str(DurationText(options.limits.retry_ns));
  app.add_option_function<std::string>(
         "--require-sandbox",
         [&options](const std::string& text) {
           options.sandbox_required = OrThrow(ParseSandboxLevel(text));
         },
         absl::StrCat("The least sandbox that a driver is loaded in (", SandboxLevelList(),
                      "); `bulkhead status` shows which it is"))
      ->type_name("LEVEL")
      ->default_str(bh_sandbox_level_name(options.sandbox_required));
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
  config.sandbox_required = options.sandbox_required;
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
