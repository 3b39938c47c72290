// SPDX-License-Identifier: Apache-2.0
#include "host/cli/scan.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "host/attachment/embedded/embedded_attachment.h"
#include "host/cli/service_options.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

constexpr int kExitClean = 0;
constexpr int kExitFound = 1;

struct ScanOptions {
  ServiceOptions service;
  std::vector<std::string> folders;
  std::string json;
  bool verbose = false;
};

// Files on their way from the walk to the threads that ask about them. Bounded: a walk is faster
// than a scan.
class PathQueue {
 public:
  void Push(std::string path) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return paths_.size() < 1024 || closed_; });
    if (!closed_) paths_.push_back(std::move(path));
    changed_.notify_all();
  }
  std::optional<std::string> Pop() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !paths_.empty() || closed_; });
    if (paths_.empty()) return std::nullopt;
    std::string path = std::move(paths_.front());
    paths_.pop_front();
    changed_.notify_all();
    return path;
  }
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> paths_;
  bool closed_ = false;
};

class Scan {
 public:
  // `own` is the service's own folder, in which nothing is to be found.
  Scan(const Program& program, EmbeddedShim& shim, const ScanOptions& options, fs::path own)
      : program_(program),
        shim_(shim),
        options_(options),
        own_(std::move(own)),
        terminal_(isatty(STDERR_FILENO) == 1) {}

  void Run() {
    std::vector<std::thread> askers;
    const unsigned count = std::max(2u, std::thread::hardware_concurrency());
    for (unsigned i = 0; i < count; ++i) {
      askers.emplace_back([this] {
        while (std::optional<std::string> path = queue_.Pop()) Ask(*path);
      });
    }
    for (const std::string& folder : options_.folders) Begin(folder);
    queue_.Close();
    for (std::thread& asker : askers) asker.join();
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

  int Conclude(double seconds) {
    if (program_.interrupted->load()) Trouble("interrupted", "");
    Report report("scan");
    report.AddInfo("files", static_cast<double>(files_), "files");
    report.AddInfo("found", static_cast<double>(found_.size()), "files");
    report.AddInfo("trouble", static_cast<double>(trouble_.size()), "files");
    report.AddInfo("time", seconds, "s");
    report.SetDetail("found_paths", found_);
    report.SetDetail("found_reasons", why_);
    report.SetDetail("trouble_paths", trouble_);
    const int written = bulkhead::Conclude(report, options_.json);
    if (denied_.load()) {
      std::fputs(
          "bulkhead: not everything was scanned; run it as root, or as a user who may read what "
          "was denied\n",
          stderr);
    }
    if (written == kExitTrouble || !trouble_.empty()) return kExitTrouble;
    return found_.empty() ? kExitClean : kExitFound;
  }

 private:
  // SUBTLE: it orders nothing; seen a moment late, it costs one more file.
  bool Interrupted() const { return program_.interrupted->load(std::memory_order_relaxed); }

  // What an operator names is looked at through a link, too; below it links are not followed.
  void Begin(const std::string& named) {
    std::error_code error;
    const fs::file_status status = fs::status(named, error);
    if (status.type() == fs::file_type::not_found) return Trouble(named, "No such file or folder");
    if (error) return Unseen(named, error);
    if (!fs::is_regular_file(status)) return Walk(named);
    const bool is_link = fs::is_symlink(fs::symlink_status(named, error));
    const fs::path file = is_link ? fs::canonical(named, error) : fs::path(named);
    if (error) return Unseen(named, error);
    queue_.Push(file.string());
  }

  void Walk(const std::string& top) {
    std::error_code error;
    if (fs::equivalent(top, own_, error)) return;
    fs::directory_iterator entry(top, error);
    if (error) return Unlisted(top, error);
    for (const fs::directory_iterator end; entry != end && !Interrupted(); entry.increment(error)) {
      std::error_code unseen;
      const fs::file_status kind = entry->symlink_status(unseen);
      if (kind.type() == fs::file_type::not_found) continue;  // it is gone
      if (unseen || kind.type() == fs::file_type::unknown) {
        Unseen(entry->path().string(), unseen);
      } else if (fs::is_directory(kind)) {
        Walk(entry->path().string());
      } else if (fs::is_regular_file(kind)) {
        queue_.Push(entry->path().string());
      }
    }
    if (error) Unlisted(top, error);
  }

  // It was not looked at, whatever it is: a folder that may be listed and not searched, a path that
  // is too long, a disk with errors.
  void Unseen(const std::string& path, const std::error_code& error) {
    if (error == std::errc::permission_denied) denied_.store(true);
    Trouble(path, absl::StrCat("can't look at it: ", error.message()));
  }

  void Unlisted(const std::string& folder, const std::error_code& error) {
    if (error == std::errc::permission_denied) denied_.store(true);
    Trouble(folder, absl::StrCat("can't list this folder: ", error.message()));
  }

  void Ask(const std::string& path) {
    if (Interrupted()) return;
    FileRequest request;
    request.path = path;
    const absl::StatusOr<UniqueFd> file = OpenAndDescribe(request);
    if (!file.ok()) {
      if (access(path.c_str(), R_OK) != 0 && errno == EACCES) denied_.store(true);
      return Trouble(path, absl::StrReplaceAll(file.status().message(), {{" " + path, ""}}));
    }
    const Completion completion = shim_.Call(request);
    const std::lock_guard<std::mutex> lock(mutex_);
    ++files_;
    if (completion.outcome != BH_OUTCOME_ANSWERED && completion.outcome != BH_OUTCOME_CACHED) {
      TroubleLocked(path, OutcomeText(completion));
    } else if (!completion.allowed()) {
      found_.push_back(path);
      why_.push_back({{"path", path}, {"reason", completion.why}});
      Line(absl::StrCat("FOUND    ", path, completion.why.empty() ? "" : ": ", completion.why));
    }
    if (terminal_ && files_ % 64 == 0) {
      std::fprintf(stderr, "\r\033[K%zu files, %zu found, %zu trouble", files_, found_.size(),
                   trouble_.size());
    }
  }

  void Trouble(const std::string& path, const std::string& why) {
    const std::lock_guard<std::mutex> lock(mutex_);
    TroubleLocked(path, why);
  }
  void TroubleLocked(const std::string& path, const std::string& why) {
    trouble_.push_back(path);
    Line(absl::StrCat("TROUBLE  ", path, why.empty() ? "" : ": ", why));
  }
  void Line(const std::string& text) const {
    std::printf("%s%s\n", terminal_ ? "\r\033[K" : "", Printable(text).c_str());
    std::fflush(stdout);
  }

  const Program& program_;
  EmbeddedShim& shim_;
  const ScanOptions& options_;
  const fs::path own_;
  const bool terminal_;
  PathQueue queue_;
  std::atomic<bool> denied_{false};  // something, to this user
  std::mutex mutex_;
  size_t files_ = 0;
  std::vector<std::string> found_;
  nlohmann::ordered_json why_ = nlohmann::ordered_json::array();  // of each
  std::vector<std::string> trouble_;
};

int RunScan(const Program& program, ScanOptions options) {
  absl::StatusOr<std::unique_ptr<EmbeddedAttachment>> made =
      EmbeddedAttachment::Create(options.service.deadline_ns);
  if (!made.ok()) return Complain(made.status());
  const std::shared_ptr<EmbeddedAttachment> attachment = *std::move(made);
  options.service.on_event = [&options](const DriverEvent& event) {
    if (options.verbose || event.level == DriverEvent::Level::kError) PrintEvent(event);
  };
  absl::StatusOr<std::unique_ptr<Service>> service =
      StartService(program, options.service, SharedLink(attachment), kEmbeddedAttachment.name);
  if (!service.ok()) return Complain(service.status());
  const uint64_t started_ns = program.now_ns();
  Scan scan(program, attachment->calls(), options, (*service)->folder());
  scan.Run();
  (*service)->Stop();
  return scan.Conclude(static_cast<double>(program.now_ns() - started_ns) / 1e9);
}

}  // namespace

void AddScan(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto options = std::make_shared<ScanOptions>();
  CLI::App* command = app.add_subcommand(
      "scan", "Ask drivers about every file of some folders; 0 clean, 1 found, 2 trouble");
  AddServiceOptions(*command, options->service);
  command->add_option("folders", options->folders, "Folders or files")
      ->required()
      ->type_name("DIR");
  command->add_option("--json", options->json, "Write the result to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  command->add_flag("--verbose", options->verbose, "Also say what the drivers and their hosts do");
  command->callback([&program, options, run] {
    *run = [&program, options] { return RunScan(program, *options); };
  });
}

}  // namespace bulkhead
