// SPDX-License-Identifier: Apache-2.0
#include "host/cli/doctor.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/attachment/fanotify/fanotify_attachment.h"
#include "host/attachment/module/module_link.h"
#include "host/cli/service.h"
#include "ipc/channel_memory.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

struct Finding {
  std::string what;
  absl::Status status;
  std::string mend;  // when it is not ok
};

// A whole call: channel, host process, sandbox, driver and back.
absl::Status TryEmbedded(const Program& program) {
  absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
  if (!shim.ok()) return shim.status();
  ServiceOptions options;
  options.drivers = {"null"};
  absl::StatusOr<std::unique_ptr<Service>> service =
      Service::Start(program, options, shim->get(), "embedded");
  if (!service.ok()) return service.status();
  const Completion completion = (*shim)->Call(FileRequest());
  if (completion.outcome == BH_OUTCOME_ANSWERED) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a call ended ", OutcomeText(completion)));
}

absl::Status TryModule() { return ModuleLink::Open().status(); }

std::vector<Finding> Examine(const Program& program) {
  std::vector<Finding> findings;
  findings.push_back(
      {"attachment embedded", TryEmbedded(program),
       "the message says what is missing; drivers are looked for beside the program and in "
       "BULKHEAD_DRIVERS"});
  findings.push_back(
      {"attachment fanotify", FanotifyAttachment::Probe(),
       "run as root (CAP_SYS_ADMIN), on a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS"});
  findings.push_back({"attachment module", TryModule(),
                      "the message says it; fanotify and embedded need no module"});
  return findings;
}

void Facts(Report& report) {
  utsname system = {};
  uname(&system);
  report.SetDetail("kernel", std::string(system.release));
  rlimit locked = {};
  getrlimit(RLIMIT_MEMLOCK, &locked);
  const double locked_kib =
      locked.rlim_cur == RLIM_INFINITY ? -1 : static_cast<double>(locked.rlim_cur) / 1024;
  const unsigned cpus = std::thread::hardware_concurrency();
  std::printf("\nkernel %s, %u CPUs, user id %u\n", system.release, cpus, geteuid());
  if (cpus == 1) std::printf("one CPU: nobody spins, each call costs two sleeps and wakes\n");
  if (locked_kib >= 0 && locked_kib < 64 * 1024) {
    std::printf(
        "locked memory is limited to %.0f KiB: channels beyond it can be swapped out "
        "(raise RLIMIT_MEMLOCK)\n",
        locked_kib);
  }
  report.AddInfo("cpus", cpus, "");
}

int RunDoctor(const Program& program, const std::string& json) {
  Report report("doctor");
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  bool any = false;
  for (const Finding& finding : Examine(program)) {
    const bool works = finding.status.ok();
    any = any || works;
    const std::string why(finding.status.message());
    std::printf("%-22s %s\n", finding.what.c_str(), works ? "works" : "does not work");
    if (!works) std::printf("    why:  %s\n    mend: %s\n", why.c_str(), finding.mend.c_str());
    list.push_back({{"what", finding.what},
                    {"works", works},
                    {"why", why},
                    {"mend", works ? "" : finding.mend}});
  }
  report.SetDetail("findings", list);
  Facts(report);
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) return Complain(status);
  }
  return any ? kExitOk : kExitFailed;
}

}  // namespace

void AddDoctor(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto json = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "doctor", "What works on this machine, tried for real; 1: no attachment works");
  command->add_option("--json", *json, "Also write it to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  command->callback(
      [&program, json, run] { *run = [&program, json] { return RunDoctor(program, *json); }; });
}

}  // namespace bulkhead
