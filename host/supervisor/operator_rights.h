// SPDX-License-Identifier: Apache-2.0
//
// The rights of operators: the one table of their requests, each with the right that it takes,
// and what gives a process a right.
//
//   root, the service's own user    everything
//   member of the admins' group     everything in the table
//   member of the readers' group    what only looks
//   others                          nothing
//
// A process's user and groups are those that the kernel recorded when it connected.
#ifndef BULKHEAD_HOST_SUPERVISOR_OPERATOR_RIGHTS_H_
#define BULKHEAD_HOST_SUPERVISOR_OPERATOR_RIGHTS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/control/envelope.h"
#include "ipc/control_socket.h"

namespace bulkhead {

enum class OperatorRight { kLook, kChange };

struct OperatorRequest {
  wire::Message type;
  OperatorRight right;
  const char* verb;  // "user 1001 may not …"
};
inline constexpr OperatorRequest kOperatorRequests[] = {
    {wire::Message::GetStatus, OperatorRight::kLook, "ask for the status"},
    {wire::Message::GetEvents, OperatorRight::kLook, "ask for events"},
    {wire::Message::SetContent, OperatorRight::kChange, "give a driver content"},
    {wire::Message::Release, OperatorRight::kChange, "lift a quarantine"},
    {wire::Message::Reload, OperatorRight::kChange, "have the configuration read again"},
    {wire::Message::SignIn, OperatorRight::kChange, "sign in to the page"},
    {wire::Message::Shutdown, OperatorRight::kChange, "stop the service"},
};
// Null: no operator's request.
const OperatorRequest* FindOperatorRequest(wire::Message type);

struct OperatorGroup {
  std::string name;  // as the configuration has it
  gid_t id = 0;
  friend bool operator==(const OperatorGroup&, const OperatorGroup&) = default;
};
struct OperatorGroups {
  std::optional<OperatorGroup> readers, admins;
  bool any() const { return readers.has_value() || admins.has_value(); }
  friend bool operator==(const OperatorGroups&, const OperatorGroups&) = default;
};
// A group's name, or its id. NotFound: there is no such group; InvalidArgument: it is the one that
// processes of other user namespaces appear in.
absl::StatusOr<OperatorGroup> FindOperatorGroup(const std::string& name);

// The more, the later. A reader is told less: no words of a driver's.
enum class OperatorRole { kNone, kReader, kAdmin, kOwner };

struct OperatorPeer {
  uid_t user = 0;
  std::vector<gid_t> groups;  // its group first
};
absl::StatusOr<OperatorPeer> PeerOf(const ControlSocket& socket);

// `owner`: the service's own user.
OperatorRole RoleOf(const OperatorPeer& peer, const OperatorGroups& groups, uid_t owner);
bool MayAsk(OperatorRole role, const OperatorRequest& request);
// Why it may not, and what would let it.
std::string RefusalText(const OperatorPeer& peer, const OperatorRequest& request,
                        const OperatorGroups& groups);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OPERATOR_RIGHTS_H_
