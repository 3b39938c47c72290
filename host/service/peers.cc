// SPDX-License-Identifier: Apache-2.0
#include "host/service/peers.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "host/supervisor/instance.h"
#include "ipc/control_socket.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

// Whether this process, of this user, listens there. The socket of a dead instance may stay, and
// another process may have its number now.
bool Listens(const std::string& path, pid_t pid) {
  const absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(path);
  if (!socket.ok()) return false;
  const absl::StatusOr<PeerCredentials> peer = socket->Peer();
  return peer.ok() && peer->pid == pid && peer->uid == geteuid();
}

}  // namespace

void Peers::Look() {
  for (auto peer = known_.begin(); peer != known_.end();) {
    if (!PollUntil(peer->second.get(), POLLIN, 0)) {
      ++peer;
      continue;
    }
    link_.IncludePeer(peer->first).IgnoreError();
    peer = known_.erase(peer);
  }
  for (const std::string& path : InstanceSockets()) {
    pid_t pid = 0;
    // Orphans become children of process 1.
    if (!absl::SimpleAtoi(std::filesystem::path(path).stem().string(), &pid) || pid <= 1) continue;
    if (pid == getpid() || known_.count(pid) != 0) continue;
    UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid() || !Listens(path, pid) || PollUntil(process.get(), POLLIN, 0)) continue;
    if (!link_.ExcludePeer(pid).ok()) continue;
    known_.emplace(pid, std::move(process));
  }
}

}  // namespace bulkhead
