// SPDX-License-Identifier: Apache-2.0
#include "host/cli/doctor.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/attachment/attachment.h"
#include "host/attachment/embedded/embedded_attachment.h"
#include "host/cli/service_options.h"
#include "ipc/channel_memory.h"

namespace bulkhead {
namespace {

struct Finding {
  std::string what;
  absl::Status status;
  std::string mend;                      // when it is not ok
  const AttachmentKind* kind = nullptr;  // of an attachment
};

// An attachment that one supervisor has at a time, and has.
bool IsInUse(const Finding& finding) {
  return finding.kind != nullptr && absl::IsAlreadyExists(finding.status);
}

// A whole call: channel, host process, sandbox, driver and back.
absl::Status TryCall(const Program& program) {
  absl::StatusOr<std::unique_ptr<EmbeddedAttachment>> made = EmbeddedAttachment::Create();
  if (!made.ok()) return made.status();
  const std::shared_ptr<EmbeddedAttachment> attachment = *std::move(made);
  ServiceOptions options;
  options.drivers = {"null"};
  absl::StatusOr<std::unique_ptr<Service>> service =
      StartService(program, options, SharedLink(attachment), kEmbeddedAttachment.name);
  if (!service.ok()) return service.status();
  const Completion completion = attachment->calls().Call(FileRequest());
  if (completion.outcome == BH_OUTCOME_ANSWERED) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a call ended ", OutcomeText(completion)));
}

// "guard folders, filter by owner": what this kind can do, or what it can't.
std::string Abilities(const AttachmentKind& kind, bool can) {
  std::string list;
  for (const CapabilityText& text : kCapabilities) {
    if (kind.can(text.capability) != can) continue;
    absl::StrAppend(&list, list.empty() ? "" : ", ", text.verb);
  }
  return list;
}

std::vector<Finding> Examine(const Program& program) {
  std::vector<Finding> findings;
  for (const AttachmentKind* kind : program.attachments) {
    findings.push_back(
        {absl::StrCat("attachment ", kind->name), kind->probe(), kind->remedy, kind});
  }
  findings.push_back(
      {"a driver's host", TryCall(program),
       "the message says what is missing; drivers are looked for beside the program and in "
       "BULKHEAD_DRIVERS",
       nullptr});
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
  bool attached = false;
  bool served = false;
  for (const Finding& finding : Examine(program)) {
    const bool works = finding.status.ok() || IsInUse(finding);
    bool& good = finding.kind != nullptr ? attached : served;
    // The embedded one guards no machine.
    good = good || (works && (finding.kind == nullptr || finding.kind->can(kGuardsFolders)));
    const std::string why(finding.status.message());
    std::printf("%-22s %s\n", finding.what.c_str(),
                IsInUse(finding) ? "works, and an instance has it"
                : works          ? "works"
                                 : "does not work");
    if (!works) std::printf("    why:  %s\n    mend: %s\n", why.c_str(), finding.mend.c_str());
    nlohmann::ordered_json entry = {{"what", finding.what},
                                    {"works", works},
                                    {"why", why},
                                    {"mend", works ? "" : finding.mend}};
    if (finding.kind != nullptr) {
      const std::string can = Abilities(*finding.kind, true);
      const std::string lacks = Abilities(*finding.kind, false);
      std::printf("    %s\n", finding.kind->summary);
      if (!can.empty()) std::printf("    can:   %s\n", can.c_str());
      if (!lacks.empty()) std::printf("    can't: %s\n", lacks.c_str());
      entry["can"] = can;
      entry["cannot"] = lacks;
      entry["limits"] = nlohmann::ordered_json::array();
      for (const AttachmentLimit& limit : finding.kind->limits) {
        if (!works || !limit.applies()) continue;
        std::printf("    limit '%s': %s\n        mend: %s\n", limit.name, limit.text, limit.remedy);
        entry["limits"].push_back(
            {{"name", limit.name}, {"text", limit.text}, {"mend", limit.remedy}});
      }
    }
    list.push_back(entry);
  }
  report.SetDetail("findings", list);
  Facts(report);
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) return Complain(status);
  }
  return attached && served ? kExitOk : kExitFailed;
}

}  // namespace

void AddDoctor(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto json = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("doctor",
                                         "What works on this machine, tried for real; 1: no "
                                         "attachment that guards folders works, or no "
                                         "host starts");
  command->add_option("--json", *json, "Also write it to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  command->callback(
      [&program, json, run] { *run = [&program, json] { return RunDoctor(program, *json); }; });
}

}  // namespace bulkhead
