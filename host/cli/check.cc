// SPDX-License-Identifier: Apache-2.0
#include "host/cli/check.h"

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/attachment/embedded/embedded_attachment.h"
#include "host/cli/driver_folder_check.h"
#include "host/cli/service_options.h"
#include "host/cli/text_output.h"
#include "host/report/report.h"
#include "host/service/event_text.h"

namespace bulkhead {
namespace {

struct CheckOptions {
  std::string folder;
  std::string content;
  std::string json;
  bool load = false;
};

// The driver's own words while it was tried, and what its sandbox lacked.
struct Tried {
  absl::Status status;
  std::vector<std::string> said;
};

// Starts and stops it as `bulkhead scan` would: in a host of its own, with its sandbox and its
// limits. Nothing of the driver runs in this process.
Tried TryToLoad(const Program& program, const CheckOptions& options, const Manifest& manifest) {
  Tried tried;
  auto said = std::make_shared<std::vector<std::string>>();
  ServiceOptions service_options;
  service_options.drivers = {manifest.folder};
  service_options.each.content_folder = options.content;
  service_options.limits.retry_ns = 0;  // its first quarantine is the answer
  // Each start says the same again: that of the last one is enough.
  service_options.on_event = [said, generation = uint32_t{0}](const DriverEvent& event) mutable {
    if (event.kind != DriverEventKind::kLog && event.kind != DriverEventKind::kWrote) return;
    if (std::exchange(generation, event.generation) != event.generation) said->clear();
    said->push_back(EventText(event));
  };
  absl::StatusOr<std::unique_ptr<EmbeddedAttachment>> made =
      EmbeddedAttachment::Create(service_options.deadline_ns);
  if (!made.ok()) return {made.status(), {}};
  const std::shared_ptr<EmbeddedAttachment> attachment = *std::move(made);
  absl::StatusOr<std::unique_ptr<Service>> service =
      StartService(program, service_options, SharedLink(attachment), kEmbeddedAttachment.name);
  tried.status = service.status();
  if (service.ok()) {
    (*service)->Stop();
    service->reset();
  }
  tried.said = *said;
  return tried;
}

bool NeedsContent(const Manifest& manifest, const CheckOptions& options) {
  return manifest.content_required && manifest.content_default.empty() && options.content.empty();
}

int RunCheck(const Program& program, const CheckOptions& options) {
  absl::StatusOr<DriverFolderReading> reading = CheckDriverFolder(options.folder);
  if (!reading.ok()) return Complain(reading.status());
  std::vector<DriverFinding>& findings = reading->findings;
  const Manifest& manifest = reading->manifest;
  std::string not_loaded;  // why
  std::vector<std::string> said;
  bool loaded = false;
  if (!options.load) {
    not_loaded = "it was not loaded; --load starts it in a sandboxed host, and stops it";
  } else if (!reading->manifest_good || !reading->library_good ||
             (!reading->content_good && options.content.empty())) {
    not_loaded = "it was not loaded: first comes what is said above";
  } else if (NeedsContent(manifest, options)) {
    not_loaded = "it was not loaded: it needs content, and has no default; give --rules DIR";
  } else {
    const Tried tried = TryToLoad(program, options, manifest);
    if (absl::IsCancelled(tried.status)) return Complain(tried.status);
    loaded = tried.status.ok();
    said = tried.said;
    if (!loaded) {
      findings.push_back(
          {.file = manifest.library, .place = {}, .text = std::string(tried.status.message())});
    }
  }

  const TextOutput out(options.json);
  for (const DriverFinding& finding : findings)
    out.Print("%s\n", Printable(finding.Line()).c_str());
  for (const std::string& line : said) out.Print("note: %s\n", line.c_str());
  if (!not_loaded.empty()) out.Print("note: %s\n", not_loaded.c_str());
  const std::string name = manifest.name.empty() ? options.folder : manifest.name;
  out.Print("%s: %s\n", Printable(name).c_str(),
            findings.empty()
                ? "nothing is wrong"
                : absl::StrCat(findings.size(), findings.size() == 1 ? " thing is" : " things are",
                               " wrong")
                      .c_str());
  if (!options.json.empty()) {
    Report report("check");
    report.AddFigure("wrong", static_cast<double>(findings.size()), "things", 0,
                     Report::Relation::kAtMost);
    report.SetDetail("driver", manifest.name);
    report.SetDetail("folder", manifest.folder);
    report.SetDetail("loaded", loaded);
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const DriverFinding& finding : findings) {
      list.push_back({{"file", finding.file},
                      {"line", finding.place.line},
                      {"column", finding.place.column},
                      {"text", finding.text}});
    }
    report.SetDetail("findings", list);
    report.SetDetail("notes", said);
    if (absl::Status status = report.WriteJson(options.json); !status.ok()) return Complain(status);
  }
  return findings.empty() ? kExitOk : kExitFailed;
}

}  // namespace

void AddCheck(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand(
      "check", "Say everything that is wrong with a driver's folder; 0 nothing, 1 something");
  command->add_option("folder", options->folder, "A driver's folder")->required()->type_name("DIR");
  command->add_flag("--load", options->load,
                    "Also start it, in a sandboxed host of its own, and stop it");
  command->add_option("--rules", options->content, "With --load: content in place of its default")
      ->check(NamesAFolder)
      ->type_name("DIR");
  command->add_option("--json", options->json, "Write the result to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  command->callback([&program, options, run] {
    *run = [&program, options] { return RunCheck(program, *options); };
  });
}

}  // namespace bulkhead
