// SPDX-License-Identifier: Apache-2.0
//
// ReleaseStore: the releases of one driver, each with a private copy of its content folder. Editing
// the operator's folder changes nothing that serves, and the last-known-good release is still there
// when it is needed. Versions of the driver's own folder would be kept here too.
//
// A copy holds the regular files of the folder and of folders below it; symbolic links are not
// followed, nor does a folder below the driver's own lead out of that. It is bounded (kFilesMax,
// kBytesMax), made under another name and renamed when it is whole. Everything is removed when the
// store ends.
//
// Threads: Add from one thread at a time, and it may take long; the others from any thread, without
// waiting for a file system.
#ifndef BULKHEAD_HOST_SUPERVISOR_RELEASE_STORE_H_
#define BULKHEAD_HOST_SUPERVISOR_RELEASE_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/content_copy.h"
#include "host/supervisor/release.h"
#include "ipc/mutex.h"

namespace bulkhead {

class ReleaseStore {
 public:
  static constexpr size_t kFilesMax = 10'000;
  static constexpr uint64_t kBytesMax = 1ull << 30;

  // `folder` is made, and removed with everything in it by the destructor.
  // `reader`: the group that may read the copies, beside this process's user.
  explicit ReleaseStore(std::string folder, ContentReader reader = 0)
      : folder_(std::move(folder)), reader_(reader) {}
  ~ReleaseStore();
  ReleaseStore(const ReleaseStore&) = delete;
  ReleaseStore& operator=(const ReleaseStore&) = delete;

  // A release of `driver` with a copy of `content` (empty: none). NotFound, PermissionDenied,
  // ResourceExhausted (too large, disk full) say what to do; nothing is left of a copy that failed.
  // Removes the copies of releases that were dropped.
  absl::StatusOr<std::shared_ptr<const Release>> Add(const Manifest& driver,
                                                     const std::string& content,
                                                     const std::string& options)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // A release that a store of the same folder has kept; `newest` was the newest there.
  void Adopt(Release release, ReleaseId newest) ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes what else is in the folder: copies that nothing knows of any more.
  void RemoveOthers() ABSL_LOCKS_EXCLUDED(mutex_);
  // Null: there is no such release, or it was dropped.
  std::shared_ptr<const Release> Get(ReleaseId id) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets the releases that are not needed. The next Add removes their copies.
  void DropUnless(const std::function<bool(ReleaseId)>& needed) ABSL_LOCKS_EXCLUDED(mutex_);
  // Hosts know the copies, and name them when something is wrong there. The operator knows only the
  // folder that was copied, and the copy may be gone when the message is read.
  std::string NameSources(std::string text) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Copy(const Manifest& driver, const std::string& from, const std::string& to) const;
  void RemoveDropped() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string folder_;
  const ContentReader reader_;
  mutable Mutex mutex_;
  ReleaseId newest_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<ReleaseId, std::shared_ptr<const Release>> releases_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> dropped_ ABSL_GUARDED_BY(mutex_);  // their copies
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_RELEASE_STORE_H_
