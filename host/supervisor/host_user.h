// SPDX-License-Identifier: Apache-2.0
//
// The user that a driver's hosts run as: one that owns nothing on this machine. Root's files, and
// those of other hosts, are then closed to a host by two means, Landlock and the file's mode; and
// no host may signal or trace another.
#ifndef BULKHEAD_HOST_SUPERVISOR_HOST_USER_H_
#define BULKHEAD_HOST_SUPERVISOR_HOST_USER_H_

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bulkhead {

// Ids that neither systemd nor distributions give to anybody (systemd.io/UIDS-GIDS: below those of
// dynamic users).
inline constexpr uid_t kHostUsersFirst = 60706, kHostUsersLast = 61183;

struct HostUser {
  uid_t id = 0;       // also of its group; 0: hosts keep the supervisor's user
  std::string lacks;  // then why
};

struct HostNeeds {
  std::vector<std::string> paths;     // as IsOpenToOthers() takes them
  std::vector<std::string> writable;  // that others must be able to write, too
  std::string package;                // a folder: the driver may open what it has
  std::string content;                // but in this folder there; empty: none
};

// A user for a driver: none of `taken`, and of no user or group that the machine knows by name.
// `seed` spreads instances over the range. Without the rights of root (to change ids, owners, and
// to signal other users) there is none, nor where a file that the driver needs can't be read by
// others than its owner.
HostUser ChooseHostUser(uint64_t seed, const std::set<uid_t>& taken, const HostNeeds& needs);

// Whether a process of any user can open this file or folder for reading by its name; one whose
// name ends in a slash, whether it can open what is in it. Else the error names what is closed.
absl::Status IsOpenToOthers(const std::string& path, bool for_writing = false);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_HOST_USER_H_
