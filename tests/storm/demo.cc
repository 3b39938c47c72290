// SPDX-License-Identifier: Apache-2.0
//
// demo: the main job on real files, each step with what was measured. Exit code 0 only if every
// step held. ./dev demo runs it.

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/cli/service_options.h"
#include "host/report/percentiles.h"
#include "host/service/temporary_folder.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "tests/storm/demo_stage.h"
#include "tests/storm/killer.h"
#include "tests/storm/storm.h"
#include "tests/testing/stopped_process.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr uint64_t kLateSlackNs = 100 * kNanosecondsPerMillisecond;
constexpr uint64_t kStormNs = 5 * kNanosecondsPerSecond;
constexpr size_t kStormFiles = 200;

// Put together at run time, so that neither this source nor the program is what scanners look for.
std::string EicarString() {
  return absl::StrCat("X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!",
                      "$H+H*");
}

bool WriteFile(const std::string& path, const std::string& text, bool executable = false) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file.good() && chmod(path.c_str(), executable ? 0755 : 0644) == 0;
}

struct DemoOptions {
  std::string json;
  bool verbose = false;
};

class Demo {
 public:
  Demo(const Program& program, const DemoOptions& options, std::unique_ptr<DemoStage> stage,
       TemporaryFolder content)
      : program_(program),
        options_(options),
        stage_(std::move(stage)),
        content_(std::move(content)),
        report_("demo") {}

  int Run() {
    std::printf("Bulkhead demo: %s\n\n", stage_->name());
    if (absl::Status status = Prepare(); !status.ok()) return Complain(status);
    CleanFileOpens();
    InfectedFileIsRefused();
    Storm();
    BadRules();
    Hang();
    return Finish();
  }

 private:
  std::string Clean() const { return stage_->folder() + "/report.sh"; }
  std::string Infected() const { return stage_->folder() + "/invoice.sh"; }

  void Step(bool held, const std::string& text) {
    std::printf("  %s  %s\n", held ? "ok    " : "FAILED", text.c_str());
    std::fflush(stdout);
    held_ = held_ && held;
  }

  // Counts a call of the story against what it had to be.
  DemoStage::Answer Asked(DemoStage::Answer answer, bool should_allow) {
    calls_.fetch_add(1);
    if (!answer.allowed && !answer.refused) lost_.fetch_add(1);
    if (answer.allowed != should_allow) wrong_.fetch_add(1);
    if (answer.ended_ns > answer.started_ns + kDeadlineNs + kLateSlackNs) late_.fetch_add(1);
    return answer;
  }

  absl::Status Prepare() {
    const std::string script = "#!/bin/sh\nexit 0\n";
    bool written = WriteFile(Clean(), script, true) &&
                   WriteFile(Infected(), script + "# " + EicarString() + "\n", true);
    for (size_t i = 0; i < kStormFiles; ++i) {
      const bool infected = i % 10 == 9;
      files_.push_back({absl::StrCat(stage_->folder(), "/file-", i), infected});
      written = written && WriteFile(files_.back().path,
                                     absl::StrCat("file ", i, infected ? EicarString() : "", "\n"));
    }
    if (!written)
      return absl::UnavailableError(stage_->folder() + ": can't write the demo's files");
    ServiceOptions options;
    options.drivers = {"scanner"};
    options.deadline_ns = kDeadlineNs;
    options.each.cache_entries = 0;  // every open asks the driver: this is about the driver
    options.limits = UnlimitedRestarts();
    return stage_->Start(program_, options, !options_.verbose);
  }

  void CleanFileOpens() {
    const DemoStage::Answer answer = Asked(stage_->Open(Clean()), true);
    Step(answer.allowed,
         absl::StrFormat("a clean file opens: %s after %.2f ms in the scanner's process",
                         answer.text, Milliseconds(answer)));
  }

  void InfectedFileIsRefused() {
    const DemoStage::Answer opened = Asked(stage_->Open(Infected()), false);
    Step(opened.refused,
         absl::StrFormat("the infected one is refused while it is opened: %s, %.2f ms", opened.text,
                         Milliseconds(opened)));
    const DemoStage::Answer executed = Asked(stage_->Execute(Infected()), false);
    Step(executed.refused, absl::StrFormat("and while it is executed: %s, %.2f ms", executed.text,
                                           Milliseconds(executed)));
  }

  void Storm() {
    std::atomic<bool> done{false};
    std::atomic<uint64_t> next{0};
    killer_ = std::make_unique<Killer>([this] { return stage_->HostPid(); },
                                       50 * kNanosecondsPerMillisecond);
    const uint64_t until_ns = program_.now_ns() + kStormNs;
    const uint64_t before = calls_.load();
    std::vector<std::thread> openers;
    for (int i = 0; i < 4; ++i) {
      openers.emplace_back([&] {
        while (program_.now_ns() < until_ns && !program_.interrupted->load()) {
          const DemoFile& file = files_[next.fetch_add(1) % files_.size()];
          const DemoStage::Answer answer = Asked(stage_->Open(file.path), !file.infected);
          killer_->Completed(answer.started_ns, answer.ended_ns);
        }
      });
    }
    std::thread reaper([&] { killer_->Run(UINT64_MAX, done); });
    for (std::thread& opener : openers) opener.join();
    done.store(true);
    reaper.join();
    Step(killer_->kills() > 0 && wrong_.load() == 0 && lost_.load() == 0,
         absl::StrFormat(
             "the driver is killed with -9 %d times in a storm of %d opens: %d wrong, %d lost",
             killer_->kills(), calls_.load() - before, wrong_.load(), lost_.load()));
  }

  // A content update like the one of 19 July 2024: it says of itself what is not so, and the engine
  // believes it.
  absl::Status MakeBadRules(const std::string& folder) {
    const std::string sources = content_.path() + "/sources";
    std::error_code error;
    std::filesystem::create_directories(sources, error);
    std::filesystem::create_directories(folder, error);
    if (!WriteFile(sources + "/update.yar",
                   "rule update { strings: $a = \"some new threat\" condition: $a }\n")) {
      return absl::UnavailableError("can't write the demo's rules");
    }
    const std::string compiled = folder + "/update.yarc";
    const std::string command =
        absl::StrCat("'", program_.folder, "/bulkhead-rules' '", sources, "' '", compiled, "'");
    if (std::system(command.c_str()) != 0) return absl::UnavailableError("bulkhead-rules failed");
    std::fstream file(compiled, std::ios::in | std::ios::out | std::ios::binary);
    constexpr std::array<char, 4> kDamage = {'\xff', '\xff', '\xff', '\xff'};
    file.seekp(154);  // how many it has, in the summary: four billion of what it does not bring
    file.write(kDamage.data(), kDamage.size());
    file.close();
    return file.good() ? absl::OkStatus() : absl::UnavailableError("can't damage " + compiled);
  }

  void BadRules() {
    const std::string folder = content_.path() + "/bad-rules";
    absl::Status status = MakeBadRules(folder);
    const uint64_t started_ns = program_.now_ns();
    if (status.ok()) {
      status = stage_->SetContent("scanner", folder);
    }
    Step(absl::IsFailedPrecondition(status),
         absl::StrCat("rules that crash the scanner in start-up: ", std::string(status.message())));
    const double took_ms = static_cast<double>(program_.now_ns() - started_ns) / 1e6;
    const DemoStage::Answer clean = Asked(stage_->Open(Clean()), true);
    const DemoStage::Answer infected = Asked(stage_->Open(Infected()), false);
    Step(clean.allowed && infected.refused,
         absl::StrFormat("the old rules are back in force after %.1f ms: clean %s, infected %s",
                         took_ms, clean.text, infected.text));
  }

  // Stopped, it neither answers nor ends: nothing but its deadline tells.
  void Hang() {
    const pid_t hung = stage_->HostPid();
    // Whole: a thread that stops with a call in hand would have it denied.
    if (!StopProcess(hung, MonotonicAfterNs(10 * kNanosecondsPerSecond))) {
      Step(false, absl::StrCat("the host ", hung, " can be stopped"));
      return;
    }
    const DemoStage::Answer answer = Asked(stage_->Open(Clean()), true);
    const double took_ms = Milliseconds(answer);
    Step(
        answer.allowed && took_ms >= static_cast<double>(kDeadlineNs) / 2e6 &&
            took_ms <= static_cast<double>(kDeadlineNs + kLateSlackNs) / 1e6,
        absl::StrFormat("the driver hangs: its caller gets the policy's answer (%s) after %.0f ms, "
                        "deadline %d ms",
                        answer.text, took_ms, kDeadlineNs / 1'000'000));
    // The host that hangs may still count as serving; what has to come is another one.
    const uint64_t until_ns = program_.now_ns() + 10 * kNanosecondsPerSecond;
    DemoStage::Answer infected = Asked(stage_->Open(Infected()), false);
    const pid_t fresh = stage_->HostPid();
    Step(infected.refused && fresh != hung && program_.now_ns() < until_ns,
         absl::StrCat("then a fresh host: pid ", fresh, " after ", hung, ", infected ",
                      infected.text));
  }

  int Finish() {
    const absl::StatusOr<StatusFields> status = stage_->Status();
    const uint64_t restarts = status.ok() ? status->drivers[0].restarts : 0;
    const absl::Status stopped = stage_->Stop();
    Step(stopped.ok(), absl::StrCat("everything ends in order ", std::string(stopped.message())));
    report_.AddInfo("calls", static_cast<double>(calls_.load()), "");
    report_.AddInfo("verdicts", static_cast<double>(calls_.load() - lost_.load()), "");
    report_.AddFigure("crashes_survived", static_cast<double>(restarts), "", 1,
                      Report::Relation::kAtLeast);
    report_.AddFigure("calls_lost", static_cast<double>(lost_.load()), "", 0,
                      Report::Relation::kAtMost);
    report_.AddFigure("wrong_verdicts", static_cast<double>(wrong_.load()), "", 0,
                      Report::Relation::kAtMost);
    report_.AddFigure("past_deadline", static_cast<double>(late_.load()), "", 0,
                      Report::Relation::kAtMost);
    report_.AddFigure("steps_held", held_ ? 1 : 0, "", 1, Report::Relation::kAtLeast);
    const Percentiles recovery = ComputePercentiles(killer_->recoveries_ms());
    report_.AddInfo("recovery_p50", recovery.p50, "ms");
    report_.AddInfo("recovery_p99", recovery.p99, "ms");
    report_.SetDetail("stage", stage_->name());
    std::printf("\n");
    return Conclude(report_, options_.json);
  }

  static double Milliseconds(const DemoStage::Answer& answer) {
    return static_cast<double>(answer.ended_ns - answer.started_ns) / 1e6;
  }

  struct DemoFile {
    std::string path;
    bool infected;
  };

  const Program& program_;
  const DemoOptions& options_;
  std::unique_ptr<DemoStage> stage_;
  TemporaryFolder content_;
  Report report_;
  std::vector<DemoFile> files_;
  std::unique_ptr<Killer> killer_;
  bool held_ = true;
  std::atomic<uint64_t> calls_{0}, lost_{0}, wrong_{0}, late_{0};
};

int RunDemo(const Program& program, const DemoOptions& options) {
  absl::StatusOr<TemporaryFolder> content = TemporaryFolder::Create();
  if (!content.ok()) return Complain(content.status());
  absl::StatusOr<std::unique_ptr<DemoStage>> stage = MakeDemoStage();
  if (!stage.ok()) return Complain(stage.status());
  Demo demo(program, options, *std::move(stage), *std::move(content));
  return demo.Run();
}

}  // namespace

}  // namespace bulkhead

int main(int argc, char** argv) {
  const bulkhead::Program program = bulkhead::StartProgram(bulkhead::Attachments());
  bulkhead::DemoOptions options;
  CLI::App app("The main job on real files, with fanotify as root, without privileges otherwise",
               "demo");
  app.add_option("--json", options.json, "Write the report to this file")
      ->check(bulkhead::ReportPathTrouble)
      ->type_name("FILE");
  app.add_flag("--verbose", options.verbose, "Also say what the driver and its hosts do");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? bulkhead::kExitOk : bulkhead::kExitTrouble;
  }
  return bulkhead::RunDemo(program, options);
}
