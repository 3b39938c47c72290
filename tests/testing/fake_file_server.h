// SPDX-License-Identifier: Apache-2.0
//
// FakeFileServer: a FUSE file system whose server is a process of its own. Opens of its file "held"
// wait until the test lets them go; "not-for-root" is refused to root; "free" is opened at once.
#ifndef BULKHEAD_TESTS_TESTING_FAKE_FILE_SERVER_H_
#define BULKHEAD_TESTS_TESTING_FAKE_FILE_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class FakeFileServer {
 public:
  // Mounts it on `folder`, which must exist. Errors of open(2) and mount(2).
  static absl::StatusOr<std::unique_ptr<FakeFileServer>> Mount(const std::string& folder);
  // Ends the server, which ends what waits for it, and unmounts.
  ~FakeFileServer();
  FakeFileServer(const FakeFileServer&) = delete;
  FakeFileServer& operator=(const FakeFileServer&) = delete;

  const std::string& folder() const { return folder_; }
  // False when no further open of "held" came within half a minute.
  bool AwaitHeld();
  // Those that wait end, and later ones do not wait.
  void LetGo();

 private:
  FakeFileServer() = default;
  std::string folder_;
  pid_t server_ = -1;
  UniqueFd held_;    // a byte for each open that waits
  UniqueFd let_go_;  // a byte: let go
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_FAKE_FILE_SERVER_H_
