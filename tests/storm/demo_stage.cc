// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/demo_stage.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "host/attachment/registry.h"
#include "host/service/temporary_folder.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/storm/storm.h"
#include "tests/testing/guarded_folder_fixture.h"

extern char** environ;

namespace bulkhead {
namespace {

class FanotifyStage final : public DemoStage {
 public:
  explicit FanotifyStage(std::unique_ptr<GuardedFolder> folder) : folder_(std::move(folder)) {}
  const char* name() const override { return "fanotify, real opens and executions"; }
  const std::string& folder() const override { return folder_->path(); }
  absl::Status Start(const Program& program, const ServiceOptions& options, bool quiet) override {
    return folder_->Guard(program, options, quiet);
  }
  Answer Open(const std::string& path) override {
    Answer answer;
    answer.started_ns = MonotonicNowNs();
    const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    Finish(file.valid() ? 0 : errno, answer);
    return answer;
  }
  Answer Execute(const std::string& path) override {
    Answer answer;
    char* const words[] = {const_cast<char*>(path.c_str()), nullptr};
    pid_t child = -1;
    answer.started_ns = MonotonicNowNs();
    const int error = posix_spawn(&child, path.c_str(), nullptr, nullptr, words, environ);
    Finish(error, answer);
    if (error == 0) waitpid(child, nullptr, 0);
    return answer;
  }
  pid_t HostPid() override { return folder_->HostPid(); }
  absl::Status SetContent(const std::string& driver, const std::string& content) override {
    return folder_->SetContent(driver, content);
  }
  absl::StatusOr<StatusFields> Status() override { return folder_->Status(); }
  absl::Status Stop() override { return folder_->Stop().status(); }

 private:
  static void Finish(int error, Answer& answer) {
    answer.ended_ns = MonotonicNowNs();
    answer.allowed = error == 0;
    answer.refused = error == EPERM;
    answer.text = error == 0 ? "allowed" : error == EPERM ? "EPERM" : std::strerror(error);
  }
  std::unique_ptr<GuardedFolder> folder_;
};

class EmbeddedStage final : public DemoStage {
 public:
  explicit EmbeddedStage(TemporaryFolder folder) : folder_(std::move(folder)) {}
  ~EmbeddedStage() override {
    if (service_) service_->Stop();
  }
  const char* name() const override { return "embedded shim, no privileges"; }
  const std::string& folder() const override { return folder_.path(); }
  absl::Status Start(const Program& program, const ServiceOptions& given, bool quiet) override {
    ServiceOptions options = given;
    if (!quiet) options.on_event = PrintEvent;
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim =
        EmbeddedShim::Create({.deadline_ns = options.deadline_ns});
    if (!shim.ok()) return shim.status();
    shim_ = *std::move(shim);
    absl::StatusOr<std::unique_ptr<Service>> service =
        StartService(program, options, shim_, "embedded");
    if (!service.ok()) return service.status();
    service_ = *std::move(service);
    return absl::OkStatus();
  }
  Answer Open(const std::string& path) override { return Ask(path, BH_CALLBACK_FILE_OPEN); }
  Answer Execute(const std::string& path) override { return Ask(path, BH_CALLBACK_FILE_EXEC); }
  pid_t HostPid() override { return service_->supervisor().HostPid(service_->drivers()[0]); }
  absl::Status SetContent(const std::string& driver, const std::string& content) override {
    return service_->supervisor()
        .SetContent(driver, content, MonotonicAfterNs(60 * kNanosecondsPerSecond))
        .status();
  }
  absl::StatusOr<StatusFields> Status() override { return service_->supervisor().Status(); }
  absl::Status Stop() override {
    if (service_) service_->Stop();
    return absl::OkStatus();
  }

 private:
  Answer Ask(const std::string& path, uint32_t callback) {
    Answer answer;
    FileRequest request;
    request.callback = callback;
    request.path = path;
    const absl::StatusOr<UniqueFd> file = OpenAndDescribe(request);
    answer.started_ns = MonotonicNowNs();
    if (!file.ok()) {
      answer.text = std::string(file.status().message());
      return answer;
    }
    const Completion completion = shim_->Call(request);
    answer.ended_ns = MonotonicNowNs();
    answer.allowed = completion.allowed();
    answer.refused = !completion.allowed();
    answer.text = completion.allowed() ? "allowed" : "denied";
    if (completion.outcome != BH_OUTCOME_ANSWERED) {
      absl::StrAppend(&answer.text, ", ", OutcomeText(completion));
    }
    return answer;
  }
  TemporaryFolder folder_;
  std::shared_ptr<EmbeddedShim> shim_;
  std::unique_ptr<Service> service_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DemoStage>> MakeDemoStage() {
  const AttachmentRows rows = Attachments();
  if (std::any_of(rows.begin(), rows.end(), [](const AttachmentKind* kind) {
        return kind->can(kGuardsFolders) && kind->probe().ok();
      })) {
    absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create(kStormService);
    if (folder.ok()) return std::make_unique<FanotifyStage>(*std::move(folder));
  }
  absl::StatusOr<TemporaryFolder> folder = TemporaryFolder::Create();
  if (!folder.ok()) return folder.status();
  return std::make_unique<EmbeddedStage>(*std::move(folder));
}

}  // namespace bulkhead
