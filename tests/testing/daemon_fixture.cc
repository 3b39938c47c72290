// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/daemon_fixture.h"

#include <grp.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "host/store/descriptor_store.h"
#include "host/supervisor/instance.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

std::string Daemon::WhyNoMembers() {
  if (!OrdinaryCanRun()) return "another user can't reach the build folder";
  for (const auto& [name, id] : {std::pair("games", kGames), std::pair("users", kUsers)}) {
    const group* entry = getgrnam(name);
    if (entry == nullptr || entry->gr_gid != id)
      return std::string("no group ") + name + " as usual";
  }
  return "";
}

std::vector<nlohmann::json> Daemon::Events() {
  std::istringstream lines(Run("events --json" + pid_).text);
  std::vector<nlohmann::json> events;
  for (std::string line; std::getline(lines, line);) {
    events.push_back(nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false));
    EXPECT_TRUE(events.back().is_object()) << line;
  }
  return events;
}

std::string Daemon::TextOf(const std::string& kind) {
  std::string text = "none";
  for (const nlohmann::json& event : Events()) {
    if (event.value("event", "") == kind) text = event.value("text", "");
  }
  return text;
}

nlohmann::json Daemon::Status() {
  const std::string text = Run("status --json -").text;
  const nlohmann::json report = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(report.is_object()) << text;
  if (!report.is_object()) return nlohmann::json::object();
  for (const nlohmann::json& instance : report.value("running", nlohmann::json::array())) {
    if (instance.value("config", "") == config_) return instance;
  }
  return nlohmann::json::object();
}

nlohmann::json Daemon::Driver() {
  const nlohmann::json drivers = Status().value("drivers", nlohmann::json::array());
  return drivers.empty() ? nlohmann::json::object() : drivers[0];
}

pid_t Daemon::Host() {
  const nlohmann::json pid = Driver().value("pid", nlohmann::json());
  return pid.is_number() ? pid.get<pid_t>() : -1;
}

pid_t Daemon::Shim() { return Status().value("shim", nlohmann::json::object()).value("pid", 0); }

std::string Daemon::Store() const { return StorePath(RunFolder(), config_); }

pid_t Daemon::StoreProcess() const {
  absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(Store());
  return socket.ok() ? socket->Peer()->pid : -1;
}

pid_t Daemon::ParentOf(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("PPid:")) return static_cast<pid_t>(std::stol(line.substr(5)));
  }
  return -1;
}

void Daemon::AwaitEnd(pid_t pid) {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (pidfd.valid()) {
    EXPECT_TRUE(PollUntil(pidfd.get(), POLLIN, MonotonicAfterNs(kSoonNs)));
  }
}

}  // namespace bulkhead
