// SPDX-License-Identifier: Apache-2.0
//
// bulkhead-fdstore: one thread, one map, nothing that can fail but memory and descriptors.
#include <cap-ng.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>

#include "host/store/descriptor_store.h"
#include "host/store/store_message.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using Kind = StoreMessage::Kind;

// Service and shim are dead: accesses wait for so long for a service, which answers them. With what
// the store then closes, the kernel lets them go on.
constexpr uint64_t kLonelyNs = 10 * kNanosecondsPerSecond;
// The first message of a connection, which says what it is for, comes at once.
constexpr uint64_t kFirstWithinNs = kNanosecondsPerSecond / 4;

// It only holds descriptors, which needs no right.
void GiveUpRights() {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  capng_clear(CAPNG_SELECT_CAPS);
  (void)capng_apply(CAPNG_SELECT_CAPS);
}

class Store {
 public:
  Store(ControlListener listener, UniqueFd service)
      : service_(std::move(service)), pid_(PeerOf(service_)), listener_(std::move(listener)) {
    (void)stat(listener_.path().c_str(), &place_);
  }

  // False: its path is another store's by now.
  bool Run() {
    while (!forgotten_ && (service_.valid() || !items_.empty() || !had_service_)) {
      had_service_ = had_service_ || service_.valid();
      pollfd watched[3] = {
          {listener_.fd(), POLLIN, 0}, {service_.get(), POLLIN, 0}, {Shim(), POLLIN, 0}};
      int wait_ms = -1;
      if (lonely_until_ns_ != 0) {
        const uint64_t now_ns = MonotonicNowNs();
        // No process answers the kernel, and no service has come to start one.
        if (now_ns >= lonely_until_ns_) return true;
        wait_ms = static_cast<int>((lonely_until_ns_ - now_ns) / kNanosecondsPerMillisecond) + 1;
      }
      if (poll(watched, 3, wait_ms) < 0) continue;
      if (watched[2].revents != 0) lonely_until_ns_ = MonotonicAfterNs(kLonelyNs);
      // First what is left of the service that went.
      if (watched[1].revents != 0) Read();
      if (!service_.valid() && !IsAtItsPlace()) return false;
      if (watched[0].revents != 0) Accept();
    }
    return true;
  }

 private:
  static pid_t PeerOf(const UniqueFd& socket) {
    ucred peer = {};
    socklen_t bytes = sizeof(peer);
    if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) return 0;
    return peer.pid;
  }

  // The process that answers the kernel, while no service watches it; -1: none.
  int Shim() const {
    const auto shim = items_.find(kShimItem);
    if (service_.valid() || lonely_until_ns_ != 0 || shim == items_.end()) return -1;
    return shim->second.descriptors.empty() ? -1 : shim->second.descriptors.front().get();
  }

  bool IsAtItsPlace() const {
    struct stat now = {};
    return stat(listener_.path().c_str(), &now) == 0 && now.st_dev == place_.st_dev &&
           now.st_ino == place_.st_ino;
  }

  void Accept() {
    absl::StatusOr<ControlSocket> connected = listener_.Accept(0);
    if (!connected.ok()) return;
    const absl::StatusOr<PeerCredentials> peer = connected->Peer();
    if (!peer.ok() || peer->uid != geteuid()) return;
    absl::StatusOr<StoreMessage> first =
        ReceiveStoreMessage(connected->fd(), MonotonicAfterNs(kFirstWithinNs));
    if (!first.ok()) return;
    if (first->kind == Kind::kLook) {
      const auto name = items_.find(kConfigItem);
      (void)SendStoreMessage(connected->fd(),
                             {.kind = Kind::kState,
                              .number = service_.valid() ? 0 : left_ns_,
                              .bytes = name == items_.end() ? "" : name->second.bytes},
                             {}, 0);
      return;
    }
    if (service_.valid()) {
      (void)SendStoreMessage(connected->fd(),
                             {.kind = Kind::kBusy, .number = static_cast<uint64_t>(pid_)}, {}, 0);
      return;
    }
    service_ = connected->Release();
    pid_ = peer->pid;
    lonely_until_ns_ = 0;
    Carry(*std::move(first));
  }

  void Read() {
    absl::StatusOr<StoreMessage> message = ReceiveStoreMessage(service_.get(), 0);
    if (absl::IsDeadlineExceeded(message.status())) return;
    if (!message.ok()) {
      service_.reset();
      left_ns_ = MonotonicNowNs();
      return;
    }
    Carry(*std::move(message));
  }

  void Carry(StoreMessage message) {
    switch (message.kind) {
      case Kind::kPut:
        items_[message.name] = {std::move(message.bytes), std::move(message.descriptors)};
        break;
      case Kind::kRemove:
        items_.erase(message.name);
        break;
      case Kind::kForget:
        forgotten_ = true;
        break;
      case Kind::kTake:
        SendAll();
        break;
      default:
        break;  // a later service's
    }
  }

  void SendAll() {
    absl::Status status;
    for (auto item = items_.begin(); status.ok() && item != items_.end(); ++item) {
      std::vector<int> numbers;
      for (const UniqueFd& one : item->second.descriptors) numbers.push_back(one.get());
      status = SendStoreMessage(
          service_.get(), {.kind = Kind::kItem, .name = item->first, .bytes = item->second.bytes},
          numbers, kForeverNs);
    }
    if (status.ok()) {
      status = SendStoreMessage(service_.get(), {.kind = Kind::kEnd, .number = left_ns_}, {},
                                kForeverNs);
    }
    // Else it is gone, which the next look sees.
  }

  struct stat place_ = {};
  UniqueFd service_;
  pid_t pid_;  // of the service
  bool had_service_ = false;
  uint64_t lonely_until_ns_ = 0;  // not 0: the shim is dead, and no service is connected
  bool forgotten_ = false;
  uint64_t left_ns_ = 0;
  std::map<std::string, DescriptorStore::Item> items_;
  ControlListener listener_;  // last: its path goes before the service sees the end
};

}  // namespace

int RunStore(const std::string& path, UniqueFd service) {
  for (const int number : {SIGHUP, SIGINT, SIGPIPE}) signal(number, SIG_IGN);
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  absl::StatusOr<ControlListener> listener = ControlListener::Listen(path);
  if (!listener.ok()) {
    std::fprintf(stderr, "bulkhead-fdstore: %s\n",
                 std::string(listener.status().message()).c_str());
    return 1;
  }
  // A pipe that the service writes to is not to stay open until this process ends, too.
  if (const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC)); null.valid()) {
    dup2(null.get(), STDERR_FILENO);
  }
  GiveUpRights();
  Store store(*std::move(listener), std::move(service));
  if (!store.Run()) _exit(0);  // and leaves the path
  return 0;
}

}  // namespace bulkhead
