// SPDX-License-Identifier: Apache-2.0
//
// Request and response of iceoryx, with take() in a loop, or with a WaitSet that sleeps. Its daemon
// RouDi has fixed names in /tmp and /dev/shm: each pair has one of its own, with private folders.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "bench/peer.h"
#include "bench/peers/private_folders.h"
#include "bench/peers/transport.h"
#include "iceoryx_posh/popo/client.hpp"
#include "iceoryx_posh/popo/server.hpp"
#include "iceoryx_posh/popo/wait_set.hpp"
#include "iceoryx_posh/runtime/posh_runtime.hpp"
#include "ipc/abi/atomics.h"

namespace bulkhead {
namespace {

using iox::popo::ClientState;
using iox::popo::ServerState;

constexpr const char* kConfig = "/tmp/roudi.toml";  // in the private folder
constexpr int kConnectPolls = 1000;                 // with 10 ms between them

[[noreturn]] void RunRouDi(pid_t client) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != client) _exit(1);
  signal(SIGCHLD, SIG_DFL);
  PinToNone();
  // Its normal output is of no interest here; its end is detected separately.
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0) _exit(1);
  execl(BULKHEAD_ROUDI_PROGRAM, "iox-roudi", "-m", "off", "-l", "error", "-c", kConfig, nullptr);
  _exit(127);
}

void StartRuntime(const char* name) {
  iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kError,
                                                           iox::log::LogLevelOutput::kHideLogLevel);
  iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
}

class Iceoryx final : public Transport {
 public:
  explicit Iceoryx(bool spinning) : spinning_(spinning) {}

  absl::Status Prepare() override {
    if (absl::Status status = MakeFoldersPrivate(); !status.ok()) return status;
    // The built-in configuration takes 150 MB.
    std::ofstream(kConfig) << "[general]\nversion = 1\n[[segment]]\n[[segment.mempool]]\n"
                              "size = 256\ncount = 1000\n";
    const pid_t client = getpid();
    const pid_t roudi = fork();
    if (roudi < 0) return absl::ErrnoToStatus(errno, "fork");
    if (roudi == 0) RunRouDi(client);
    return absl::OkStatus();
  }

  absl::Status StartServer() override {
    StartRuntime("bench-server");
    server_.emplace(kService);
    if (spinning_) return absl::OkStatus();
    waitset_.emplace();
    if (waitset_->attachState(*server_, ServerState::HAS_REQUEST).has_error()) {
      return absl::InternalError("iceoryx: the WaitSet does not take the server");
    }
    return absl::OkStatus();
  }

  absl::Status StartClient() override {
    StartRuntime("bench-client");
    client_.emplace(kService);
    if (!spinning_) {
      waitset_.emplace();
      if (waitset_->attachState(*client_, ClientState::HAS_RESPONSE).has_error()) {
        return absl::InternalError("iceoryx: the WaitSet does not take the client");
      }
    }
    const timespec pause = {.tv_sec = 0, .tv_nsec = 10'000'000};
    for (int i = 0; i < kConnectPolls; ++i) {
      if (client_->getConnectionState() == iox::ConnectionState::CONNECTED) {
        return absl::OkStatus();
      }
      nanosleep(&pause, nullptr);
    }
    return absl::DeadlineExceededError("iceoryx: no connection to the server");
  }

  void Serve() override {
    if (!spinning_) (void)waitset_->wait();
    for (int i = 0; i < kPollsAtOnce; ++i) {
      auto request = server_->take();
      if (request.has_error()) {
        if (!spinning_) return;
        bh_cpu_relax();
        continue;
      }
      auto response = server_->loan(request.value(), *request.value());
      if (response.has_error()) return;
      Answer(*response.value());
      (void)response.value().send();
      return;
    }
  }

  bool Call(Payload& payload) override {
    auto request = client_->loan(payload);
    if (request.has_error() || request.value().send().has_error()) return false;
    for (;;) {
      if (!spinning_) (void)waitset_->wait();
      auto response = client_->take();
      if (!response.has_error()) {
        payload = *response.value();
        return true;
      }
      bh_cpu_relax();
    }
  }

 private:
  static inline const iox::capro::ServiceDescription kService{"Bulkhead", "bench", "ask"};

  const bool spinning_;
  std::optional<iox::popo::Server<Payload, Payload>> server_;
  std::optional<iox::popo::Client<Payload, Payload>> client_;
  std::optional<iox::popo::WaitSet<1>> waitset_;
};

}  // namespace

std::unique_ptr<Transport> MakeIceoryxSpinning() { return std::make_unique<Iceoryx>(true); }
std::unique_ptr<Transport> MakeIceoryxWaitSet() { return std::make_unique<Iceoryx>(false); }

}  // namespace bulkhead
