// SPDX-License-Identifier: Apache-2.0
//
// StateFolder: the private folder of one instance, for what has to outlast its hosts (copies of
// content) and is removed with it.
//
//   /var/lib/bulkhead/instance-PID-XXXXXX   of root
//
// A user other than root has the same below $XDG_STATE_HOME/bulkhead, or ~/.local/state/bulkhead.
// Where that can't be made (a file system that is read-only, a user without a home) it is below
// RunFolder(). Not below TMPDIR: what cleans there takes files away that a restart needs.
//
// The living instance holds a lock (flock) on its folder. The next instance removes the folders on
// which there is none: their instances were killed.
#ifndef BULKHEAD_HOST_SERVICE_STATE_FOLDER_H_
#define BULKHEAD_HOST_SERVICE_STATE_FOLDER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class StateFolder {
 public:
  // Below the first of StateBases() where it can be made.
  static absl::StatusOr<StateFolder> Create();
  // Below `base`, which is made if need be, after the folders of the dead there were removed.
  static absl::StatusOr<StateFolder> CreateIn(const std::string& base);
  // The folder of an instance before this one, whose lock was left. NotFound: it is not there any
  // more.
  static absl::StatusOr<StateFolder> Adopt(std::string path, UniqueFd lock);
  StateFolder(StateFolder&& other) noexcept
      : path_(std::exchange(other.path_, {})), lock_(std::move(other.lock_)) {}
  StateFolder& operator=(StateFolder&&) = delete;
  ~StateFolder();  // removes the folder with everything in it
  const std::string& path() const { return path_; }
  // Held for as long as a copy of it is open.
  const UniqueFd& lock() const { return lock_; }

 private:
  StateFolder(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  UniqueFd lock_;
};

// Where this user's instances keep their folders, in the order in which they are tried.
std::vector<std::string> StateBases();
// Removes the folders in `base` whose instances are dead; returns how many.
int RemoveFoldersOfTheDead(const std::string& base);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_STATE_FOLDER_H_
