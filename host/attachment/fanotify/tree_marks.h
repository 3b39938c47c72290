// SPDX-License-Identifier: Apache-2.0
//
// TreeMarks: a mark on every directory of a tree, kept up to date while directories are created and
// moved.
//
// A mark is on the directory itself, not on a path: a file is guarded when it is opened through a
// marked directory, by any mount or name. inotify reports new directories, which are marked right
// after; files opened in them before that cause no events (docs/decisions/fanotify-marks.md). A
// directory that was moved out of the tree stays guarded.
//
// Runs in the supervisor, an excluded process, and opens directories only, which cause
// no permission events.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_TREE_MARKS_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_TREE_MARKS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/fanotify/fanotify_group.h"
#include "host/attachment/fanotify/log_limit.h"
#include "ipc/mutex.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class TreeMarks {
 public:
  // `group` is not owned and must outlive this. `log` is called, from any thread, for each
  // directory that could not be marked, or with their number when there are many: their files are
  // not guarded.
  static absl::StatusOr<std::unique_ptr<TreeMarks>> Create(
      FanotifyGroup* group, const bh_callback_set& callbacks,
      std::function<void(const std::string&)> log);
  ~TreeMarks();

  // Marks the tree and watches it from now on. Does not cross into other file systems. Directories
  // that vanish during the walk are skipped; those that can't be marked are logged. An error when
  // that is the root, or when the kernel has no more watches.
  absl::Status AddTree(const std::string& root);

  uint64_t directories() const { return directories_.load(); }  // marked so far

 private:
  TreeMarks(FanotifyGroup* group, const bh_callback_set& callbacks,
            std::function<void(const std::string&)> log);

  absl::Status Walk(const std::string& path, uint64_t device, bool is_root)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch();
  void HandleEvents();
  void Unguarded(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FanotifyGroup* const group_;
  const bh_callback_set callbacks_;
  UniqueFd inotify_;
  UniqueFd stop_;

  struct Watched {
    std::string path;
    uint64_t device = 0;
  };
  Mutex mutex_;
  std::map<int, Watched> watched_ ABSL_GUARDED_BY(mutex_);  // by inotify's number
  std::vector<Watched> roots_ ABSL_GUARDED_BY(mutex_);
  LogLimit log_ ABSL_GUARDED_BY(mutex_);

  std::atomic<uint64_t> directories_{0};
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_TREE_MARKS_H_
