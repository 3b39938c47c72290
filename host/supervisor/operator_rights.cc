// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/operator_rights.h"

#include <grp.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

// What the kernel shows for a group that this user namespace does not have.
constexpr gid_t kOverflowGroup = 65534;
constexpr size_t kEntryBytesMax = 1 << 24;  // a group with many members

// Of the group database; nullopt: it has none, or can't be read.
template <typename Look>
std::optional<gid_t> LookUp(const Look& look) {
  std::vector<char> text(4096);
  for (;;) {
    group entry = {};
    group* found = nullptr;
    const int error = look(&entry, text.data(), text.size(), &found);
    if (error == EINTR) continue;
    if (error != ERANGE || text.size() >= kEntryBytesMax) {
      return error == 0 && found != nullptr ? std::optional(found->gr_gid) : std::nullopt;
    }
    text.resize(2 * text.size());
  }
}

}  // namespace

const OperatorRequest* FindOperatorRequest(wire::Message type) {
  const auto* found =
      std::find_if(std::begin(kOperatorRequests), std::end(kOperatorRequests),
                   [type](const OperatorRequest& request) { return request.type == type; });
  return found == std::end(kOperatorRequests) ? nullptr : found;
}

absl::StatusOr<OperatorGroup> FindOperatorGroup(const std::string& name) {
  std::optional<gid_t> id = LookUp([&name](group* entry, char* text, size_t bytes, group** found) {
    return getgrnam_r(name.c_str(), entry, text, bytes, found);
  });
  gid_t number = 0;
  if (!id && absl::SimpleAtoi(name, &number)) {
    id = LookUp([number](group* entry, char* text, size_t bytes, group** found) {
      return getgrgid_r(number, entry, text, bytes, found);
    });
  }
  if (!id) {
    return absl::NotFoundError(
        absl::StrCat("there is no group '", name, "'; make it (groupadd), or name another"));
  }
  if (*id == kOverflowGroup) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the group '", name, "' is the one of processes whose own is not known; name another"));
  }
  return OperatorGroup{name, *id};
}

absl::StatusOr<OperatorPeer> PeerOf(const ControlSocket& socket) {
  const absl::StatusOr<PeerCredentials> credentials = socket.Peer();
  if (!credentials.ok()) return credentials.status();
  OperatorPeer peer = {.user = credentials->uid, .groups = {credentials->gid}};
  const std::vector<gid_t> more = socket.PeerGroups();
  peer.groups.insert(peer.groups.end(), more.begin(), more.end());
  return peer;
}

OperatorRole RoleOf(const OperatorPeer& peer, const OperatorGroups& groups, uid_t owner) {
  const auto in = [&peer](const std::optional<OperatorGroup>& group) {
    return group.has_value() &&
           std::find(peer.groups.begin(), peer.groups.end(), group->id) != peer.groups.end();
  };
  if (peer.user == 0 || peer.user == owner) return OperatorRole::kOwner;
  if (in(groups.admins)) return OperatorRole::kAdmin;
  return in(groups.readers) ? OperatorRole::kReader : OperatorRole::kNone;
}

bool MayAsk(OperatorRole role, const OperatorRequest& request) {
  return role >=
         (request.right == OperatorRight::kLook ? OperatorRole::kReader : OperatorRole::kAdmin);
}

std::string RefusalText(const OperatorPeer& peer, const OperatorRequest& request,
                        const OperatorGroups& groups) {
  std::string takes;
  const auto add = [&takes](const std::optional<OperatorGroup>& group) {
    if (group.has_value()) absl::StrAppend(&takes, "the group '", group->name, "' or ");
  };
  if (request.right == OperatorRight::kLook) add(groups.readers);
  add(groups.admins);
  return absl::StrCat("user ", peer.user, " may not ", request.verb, ": that takes ", takes,
                      "root; a new membership counts from the next login on");
}

}  // namespace bulkhead
