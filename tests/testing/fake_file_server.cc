// SPDX-License-Identifier: Apache-2.0
//
// The protocol: include/uapi/linux/fuse.h, and Documentation/filesystems/fuse.rst of the kernel.
#include "tests/testing/fake_file_server.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

constexpr int kHeldWithinMs = 30'000;
constexpr std::string_view kFiles[] = {"held", "free", "not-for-root"};
constexpr uint64_t kHeldNode = 2;  // in that order
constexpr uint64_t kNotForRootNode = 4;

// Of the server's process: system calls, and memory of its own.
class Server {
 public:
  Server(int device, int held, int let_go) : device_(device), held_(held), let_go_(let_go) {}

  [[noreturn]] void Run() {
    for (;;) {
      pollfd ready[] = {{.fd = device_, .events = POLLIN, .revents = 0},
                        {.fd = waits_ ? let_go_ : -1, .events = POLLIN, .revents = 0}};
      if (poll(ready, 2, -1) < 0 && errno != EINTR) _exit(1);
      if (ready[1].revents != 0) LetGo();
      if (ready[0].revents == 0) continue;
      const ssize_t bytes = read(device_, request_.data(), request_.size());
      if (bytes < 0 && errno == ENODEV) _exit(0);  // unmounted
      if (bytes >= static_cast<ssize_t>(sizeof(fuse_in_header))) Answer();
    }
  }

 private:
  void LetGo() {
    waits_ = false;
    for (const uint64_t request : waiting_) Opened(request);
    waiting_.clear();
  }

  void Reply(uint64_t request, int error, const void* body = nullptr, size_t bytes = 0) const {
    fuse_out_header header = {};
    header.len = static_cast<uint32_t>(sizeof(header) + bytes);
    header.error = -error;
    header.unique = request;
    const iovec parts[2] = {{.iov_base = &header, .iov_len = sizeof(header)},
                            {.iov_base = const_cast<void*>(body), .iov_len = bytes}};
    // ENOENT: the request was interrupted.
    (void)!writev(device_, parts, bytes != 0 ? 2 : 1);
  }

  void Opened(uint64_t request) const {
    const fuse_open_out open = {};
    Reply(request, 0, &open, sizeof(open));
  }

  static fuse_attr AttributesOf(uint64_t node) {
    fuse_attr attributes = {};
    attributes.ino = node;
    attributes.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    attributes.nlink = 1;
    attributes.blksize = 4096;
    return attributes;
  }

  void Answer() {
    fuse_in_header header;
    std::memcpy(&header, request_.data(), sizeof(header));
    const char* body = request_.data() + sizeof(header);
    switch (header.opcode) {
      case FUSE_INIT: {
        fuse_init_out out = {};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = FUSE_KERNEL_MINOR_VERSION;
        out.max_write = 4096;
        return Reply(header.unique, 0, &out, sizeof(out));
      }
      case FUSE_LOOKUP: {
        const auto* found = std::find(std::begin(kFiles), std::end(kFiles), body);
        if (found == std::end(kFiles)) return Reply(header.unique, ENOENT);
        fuse_entry_out out = {};
        out.nodeid = kHeldNode + static_cast<uint64_t>(found - std::begin(kFiles));
        out.attr = AttributesOf(out.nodeid);
        return Reply(header.unique, 0, &out, sizeof(out));
      }
      case FUSE_GETATTR: {
        fuse_attr_out out = {};
        out.attr = AttributesOf(header.nodeid);
        return Reply(header.unique, 0, &out, sizeof(out));
      }
      case FUSE_OPEN:
        if (header.nodeid == kNotForRootNode && header.uid == 0) {
          return Reply(header.unique, EACCES);
        }
        if (!waits_ || header.nodeid != kHeldNode) return Opened(header.unique);
        waiting_.push_back(header.unique);
        (void)!write(held_, "", 1);
        return;
      case FUSE_OPENDIR:
        return Opened(header.unique);
      case FUSE_READ:
      case FUSE_READDIR:
      case FUSE_READDIRPLUS:
      case FUSE_FLUSH:
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
        return Reply(header.unique, 0);
      case FUSE_STATFS: {
        const fuse_statfs_out out = {};
        return Reply(header.unique, 0, &out, sizeof(out));
      }
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;  // not answered
      default:
        return Reply(header.unique, ENOSYS);
    }
  }

  const int device_, held_, let_go_;
  bool waits_ = true;
  std::vector<uint64_t> waiting_;
  std::array<char, FUSE_MIN_READ_BUFFER + 4096> request_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FakeFileServer>> FakeFileServer::Mount(const std::string& folder) {
  UniqueFd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device.valid()) return absl::ErrnoToStatus(errno, "/dev/fuse");
  int held[2], let_go[2];
  if (pipe2(held, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  UniqueFd held_out(held[1]);
  std::unique_ptr<FakeFileServer> made(new FakeFileServer);
  made->held_.reset(held[0]);
  if (pipe2(let_go, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd let_go_in(let_go[0]);
  made->let_go_.reset(let_go[1]);
  const std::string options =
      absl::StrCat("fd=", device.get(), ",rootmode=40000,user_id=0,", "group_id=0,allow_other");
  if (mount("held", folder.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("a FUSE file system on ", folder));
  }
  made->folder_ = folder;
  made->server_ = fork();
  if (made->server_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (made->server_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    made->let_go_.reset();  // this process's copy would keep it open
    auto server = std::make_unique<Server>(device.get(), held_out.get(), let_go_in.get());
    server->Run();
  }
  return made;
}

FakeFileServer::~FakeFileServer() {
  if (server_ > 0) {
    kill(server_, SIGKILL);
    waitpid(server_, nullptr, 0);
  }
  if (!folder_.empty()) umount2(folder_.c_str(), MNT_DETACH);
}

bool FakeFileServer::AwaitHeld() {
  pollfd held = {.fd = held_.get(), .events = POLLIN, .revents = 0};
  char byte;
  return poll(&held, 1, kHeldWithinMs) == 1 && read(held_.get(), &byte, 1) == 1;
}

// Not by closing it: processes that the test has forked hold it open.
void FakeFileServer::LetGo() { (void)!write(let_go_.get(), "", 1); }

}  // namespace bulkhead
