// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/daemon_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/service/daemon.h"
#include "host/store/descriptor_store.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/control_socket.h"

namespace bulkhead {
namespace {

constexpr int kUnitNice = -10;  // packaging/systemd/bulkhead.service

}  // namespace

DaemonProcess::DaemonProcess(const Program& program, TemporaryFolder folder)
    : program_(program),
      folder_(std::move(folder)),
      config_(folder_.path() + "/bulkhead.toml"),
      notify_(folder_.path() + "/notify") {}

absl::StatusOr<std::unique_ptr<DaemonProcess>> DaemonProcess::Create(const Program& program,
                                                                     const std::string& config) {
  absl::StatusOr<TemporaryFolder> folder = TemporaryFolder::Create();
  if (!folder.ok()) return folder.status();
  std::unique_ptr<DaemonProcess> daemon(new DaemonProcess(program, *std::move(folder)));
  std::ofstream(daemon->config_) << config;
  std::error_code error;
  std::filesystem::permissions(daemon->config_, std::filesystem::perms(0600), error);
  if (error) return absl::ErrnoToStatus(error.value(), daemon->config_);
  const std::string notify = daemon->folder() + "/notify";
  if (!daemon->notify_.bound()) return absl::ErrnoToStatus(errno, notify);
  setenv("NOTIFY_SOCKET", notify.c_str(), 1);
  return daemon;
}

DaemonProcess::~DaemonProcess() {
  if (pid_ > 0) Kill();
  ReleaseLeft(program_, config_).IgnoreError();
}

absl::StatusOr<double> DaemonProcess::Start() {
  const std::string program = program_.folder + "/bulkheadd";
  const std::string log_path = folder() + "/log";
  notify_.Forget();
  const uint64_t began_ns = MonotonicNowNs();
  began_us_ = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
  pid_ = fork();
  if (pid_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid_ == 0) {  // only system calls: the starter has threads
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)setpriority(PRIO_PROCESS, 0, kUnitNice);
    const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDERR_FILENO);
    execl(program.c_str(), program.c_str(), "--config", config_.c_str(), nullptr);
    _exit(127);
  }
  if (notify_.Await("READY=1").empty()) {
    return absl::DeadlineExceededError(absl::StrCat("bulkheadd is not ready in time: ", Log()));
  }
  return static_cast<double>(MonotonicNowNs() - began_ns) / 1e6;
}

absl::StatusOr<double> DaemonProcess::AdoptedAfterMs() const {
  absl::StatusOr<ControlMessage> answer = AskInstance(InstanceSocket(pid_), MakeGetEvents(0));
  if (!answer.ok()) return answer.status();
  const auto* happened = answer->as<wire::Events>();
  if (happened == nullptr) return absl::InternalError(answer->name());
  for (const EventFields& event : ReadEvents(*happened).events) {
    if (event.kind != DriverEventKindName(DriverEventKind::kAdopted)) continue;
    return static_cast<double>(event.at_us - began_us_) / 1e3;
  }
  return absl::NotFoundError("it has not gone on with its host");
}

void DaemonProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

absl::Status DaemonProcess::Stop() {
  if (pid_ <= 0) return absl::FailedPreconditionError("no service runs");
  kill(pid_, SIGTERM);
  int code = 0;
  while (waitpid(pid_, &code, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return code == 0 ? absl::OkStatus() : absl::InternalError("bulkheadd did not end in order");
}

absl::StatusOr<StatusFields> DaemonProcess::Status() const {
  absl::StatusOr<ControlMessage> answer = AskInstance(InstanceSocket(pid_), MakeGetStatus());
  if (!answer.ok()) return answer.status();
  const auto* status = answer->as<wire::Status>();
  if (status == nullptr) return absl::InternalError(answer->name());
  return ReadStatus(*status);
}

absl::Status DaemonProcess::Ask(const ControlBuffer& request) const {
  absl::StatusOr<ControlMessage> answer = AskInstance(InstanceSocket(pid_), request);
  if (!answer.ok()) return answer.status();
  const auto* done = answer->as<wire::Done>();
  if (done == nullptr) {
    return absl::InternalError(absl::StrCat("bulkheadd answered ", answer->name(), ", not Done"));
  }
  if (done->error() == nullptr || done->error()->size() == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(done->error()->str());
}

pid_t DaemonProcess::StorePid() const {
  absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(StorePath(RunFolder(), config_));
  if (!socket.ok()) return -1;
  const absl::StatusOr<PeerCredentials> peer = socket->Peer();
  return peer.ok() ? peer->pid : -1;
}

void DaemonProcess::ForgetLog() const { (void)!truncate((folder() + "/log").c_str(), 0); }

std::string DaemonProcess::Log() const {
  std::stringstream text;
  text << std::ifstream(folder() + "/log").rdbuf();
  return text.str();
}

}  // namespace bulkhead
