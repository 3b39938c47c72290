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
// Directories are opened by what the kernel calls them (file handles) and by walking down from an
// open one, never by a remembered path: a rename meanwhile leads this nowhere else.
// Where a file system has no handles, a new directory makes it walk the whole tree again.
//
// Keeps no descriptor of the guarded file system, which can be unmounted. Runs in the supervisor,
// an excluded process, and opens directories only, which cause no permission events.
//
// Threads: one at a time, but for directories().
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_TREE_MARKS_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_TREE_MARKS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/fanotify/fanotify_group.h"
#include "ipc/log_limit.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class TreeMarks {
 public:
  // `group` is not owned and must outlive this. `name` is the tree's, for messages. `log` is called
  // for each directory that could not be marked, or with their number when there are many: their
  // files are not guarded.
  static absl::StatusOr<std::unique_ptr<TreeMarks>> Create(
      FanotifyGroup* group, const bh_callback_set& callbacks, const std::string& name,
      std::function<void(const std::string&)> log);
  ~TreeMarks();

  // Marks the tree below an open directory, again if it was before. Does not cross into other
  // mounts. Directories that vanish during the walk are skipped. An error is of the root, or the
  // kernel has no more watches.
  absl::Status MarkAll(int root);

  // Readable when HandleEvents() has something to do.
  int events() const { return inotify_.get(); }
  struct Change {
    bool root_moved = false;  // or deleted, or unmounted
    bool mark_again = false;  // events were lost: call MarkAll()
  };
  // Marks the directories that came, a bounded number in each call. `root` as given to MarkAll();
  // -1: it can't be opened now.
  Change HandleEvents(int root);

  // Directories found by the last MarkAll(), or since, that could not be marked.
  uint64_t unmarked() const { return unmarked_; }
  const std::string& first_unmarked() const { return first_unmarked_; }
  uint64_t directories() const { return directories_.load(); }  // marked so far
  void TellLeftOut(uint64_t now_ns) { log_.TellLeftOut(now_ns); }

 private:
  struct Handle {
    int type = 0;
    std::string bytes;  // empty: the file system gives none
  };

  TreeMarks(FanotifyGroup* group, const bh_callback_set& callbacks, std::string name,
            std::function<void(const std::string&)> log);

  absl::Status Mark(int directory, bool is_root);
  absl::Status Walk(int from, bool is_root, const std::string& where);
  void Came(int root, int watch, const std::string& name, Change& change);
  void Unmarked(const std::string& where, const absl::Status& status);

  FanotifyGroup* const group_;
  const bh_callback_set callbacks_;
  const std::string name_;
  LogLimit log_;
  UniqueFd inotify_;
  int root_watch_ = -1;
  std::map<int, Handle> watched_;  // by inotify's number
  uint64_t unmarked_ = 0;
  std::string first_unmarked_;
  std::atomic<uint64_t> directories_{0};
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_TREE_MARKS_H_
