// SPDX-License-Identifier: Apache-2.0
//
// bulkheadd: the service, with a configuration file. What a service manager starts.
//
// Exit codes: 0 ended as it was asked to; 1 it could not start, or go on; 78 (EX_CONFIG of
// sysexits.h) the configuration can't be used, so that starting it again changes nothing.
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "CLI/CLI.hpp"
#include "absl/strings/str_split.h"
#include "host/attachment/registry.h"
#include "host/cli/program.h"
#include "host/service/config_file.h"
#include "host/service/daemon.h"
#include "host/service/reload.h"
#include "host/service/service_log.h"
#include "ipc/descriptor_table.h"

namespace bulkhead {
namespace {

constexpr int kExitNotRunning = 1;
constexpr int kExitConfig = 78;

int Serve(const Program& program, const std::string& path) {
  const absl::StatusOr<ServiceConfig> config = UsableConfig(path, program.attachments);
  if (!config.ok()) {
    const std::string text(config.status().message());
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      std::fprintf(stderr, "bulkheadd: %s\n", Printable(std::string(line)).c_str());
    }
    return kExitConfig;
  }
  absl::Status status;
  {
    ServiceLog log(/*quiet=*/false, STDERR_FILENO, config->log);
    status = RunDaemon(program, {.config = *config, .config_path = path, .outlives = true}, log)
                 .status();
    if (!status.ok()) log.Warn(std::string(status.message()));
  }
  return status.ok() || absl::IsCancelled(status) ? kExitOk : kExitNotRunning;
}

int Main(int argc, char** argv) {
  TakeStandardDescriptors();
  ReserveDescriptors();
  ComeBeforeOthers();
  const Program program = StartProgram(Attachments());
  CLI::App app(
      "Runs the drivers and guards of a configuration file until SIGTERM; SIGHUP reads it again");
  app.set_version_flag("--version", "bulkheadd 0.1.0");
  std::string path = kConfigPath;
  app.add_option("--config", path,
                 "The configuration file; `bulkhead check-config` says what is "
                 "wrong with it")
      ->capture_default_str()
      ->type_name("FILE");
  bool release = false;
  app.add_flag(
      "--release", release,
      "Only end the hosts and guards that a bulkheadd with this file has left when it died, or "
      "was stopped with --keep");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? kExitOk : kExitConfig;
  }
  std::error_code error;
  path = std::filesystem::absolute(path, error).string();
  if (!release) return Serve(program, path);
  const absl::Status released = ReleaseLeft(program, path);
  if (released.ok()) return kExitOk;
  std::fprintf(stderr, "bulkheadd: %s\n", Printable(std::string(released.message())).c_str());
  return kExitNotRunning;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) { return bulkhead::Main(argc, argv); }
