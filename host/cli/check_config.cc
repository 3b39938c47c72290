// SPDX-License-Identifier: Apache-2.0
#include "host/cli/check_config.h"

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/cli/text_output.h"
#include "host/report/report.h"
#include "host/service/config_file.h"
#include "host/supervisor/manifest.h"

namespace bulkhead {
namespace {

struct CheckOptions {
  std::string path = kConfigPath;
  std::string json;
};

// What the file itself can't show: its drivers are looked for, as a start would.
std::vector<std::string> MissingDrivers(const ServiceConfig& config) {
  std::vector<std::string> missing;
  for (const ServiceDriver& driver : config.drivers) {
    const absl::StatusOr<Manifest> manifest = FindDriver(driver.driver, DriverSearchFolders());
    if (!manifest.ok()) missing.emplace_back(manifest.status().message());
  }
  return missing;
}

int CheckConfigFile(const Program& program, const CheckOptions& options) {
  const absl::StatusOr<ParsedConfig> parsed = ReadConfigFile(options.path, program.attachments);
  if (!parsed.ok()) return Complain(parsed.status());
  const std::vector<std::string> missing =
      parsed->mistakes.empty() ? MissingDrivers(parsed->config) : std::vector<std::string>();
  const TextOutput out(options.json);
  nlohmann::ordered_json mistakes = nlohmann::ordered_json::array();
  for (const FileMistake& mistake : parsed->mistakes) {
    out.Print("%s\n", Printable(MistakeText(options.path, mistake)).c_str());
    mistakes.push_back(
        {{"line", mistake.line}, {"column", mistake.column}, {"text", mistake.text}});
  }
  for (const std::string& text : missing) {
    out.Print("%s: %s\n", options.path.c_str(), Printable(text).c_str());
    mistakes.push_back({{"line", nullptr}, {"column", nullptr}, {"text", text}});
  }
  if (mistakes.empty()) {
    out.Print("%s: %zu drivers, %zu guards; nothing is wrong with it\n", options.path.c_str(),
              parsed->config.drivers.size(), parsed->config.guards.size());
  }
  if (!options.json.empty()) {
    Report report("check-config");
    report.AddInfo("mistakes", static_cast<double>(mistakes.size()), "");
    report.SetDetail("file", options.path);
    report.SetDetail("mistakes", mistakes);
    if (absl::Status status = report.WriteJson(options.json); !status.ok()) return Complain(status);
  }
  return mistakes.empty() ? kExitOk : kExitFailed;
}

}  // namespace

void AddCheckConfig(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand(
      "check-config", "All that is wrong with a configuration file, with lines; 1: something is");
  command->add_option("file", options->path, "The file")->capture_default_str()->type_name("FILE");
  command
      ->add_option("--json", options->json,
                   "Also write it to this file; -: to standard output only")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  command->callback([&program, options, run] {
    *run = [&program, options] { return CheckConfigFile(program, *options); };
  });
}

}  // namespace bulkhead
