// SPDX-License-Identifier: Apache-2.0
#include "tests/attachment/inbox/inbox_attachment.h"

#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

constexpr const char* kCounters[] = {"events", "denied", "read_errors"};

class InboxAttachment final : public Attachment {
 public:
  static absl::StatusOr<std::unique_ptr<Attachment>> Create(const AttachmentOptions&) {
    std::unique_ptr<InboxAttachment> made(new InboxAttachment());
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    if (!shim.ok()) return shim.status();
    made->shim_ = *std::move(shim);
    made->inotify_.reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    made->stop_.reset(eventfd(0, EFD_CLOEXEC));
    if (!made->inotify_.valid() || !made->stop_.valid()) {
      return absl::ErrnoToStatus(errno, "inbox: inotify");
    }
    made->thread_ = std::thread([inbox = made.get()] { inbox->Watch(); });
    return made;
  }
  ~InboxAttachment() override { Stop(); }

  ShimLink* link() override { return shim_.get(); }
  absl::StatusOr<MarkKind> Guard(const GuardSpec& guard) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int watch = inotify_add_watch(inotify_.get(), guard.folder.c_str(), IN_CLOSE_WRITE);
    if (watch < 0) return absl::ErrnoToStatus(errno, absl::StrCat("can't watch ", guard.folder));
    guards_[watch] = guard;
    return MarkKind::kDirectory;
  }
  std::vector<uint64_t> CounterValues() override { return {events_, denied_, read_errors_}; }
  void RemoveGuards() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [watch, guard] : guards_) inotify_rm_watch(inotify_.get(), watch);
    guards_.clear();
  }
  void Stop() override {
    if (!thread_.joinable()) return;
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }

 private:
  void Watch() {
    alignas(inotify_event) char buffer[sizeof(inotify_event) + NAME_MAX + 1];
    pollfd waited[] = {{inotify_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    while (poll(waited, 2, -1) >= 0 && waited[1].revents == 0) {
      const ssize_t bytes = read(inotify_.get(), buffer, sizeof(buffer));
      for (ssize_t at = 0; at < bytes;) {
        inotify_event event;
        std::memcpy(&event, buffer + at, sizeof(event));
        if (event.len > 0) Ask(event.wd, buffer + at + sizeof(event));
        at += static_cast<ssize_t>(sizeof(event) + event.len);
      }
    }
  }

  void Ask(int watch, const std::string& name) {
    GuardSpec guard;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = guards_.find(watch);
      if (found == guards_.end()) return;
      guard = found->second;
    }
    const std::string path = absl::StrCat(guard.folder, "/", name);
    FileRequest request;
    request.path = path;
    request.deadline_ns = MonotonicAfterNs(guard.deadline_ns);
    const absl::StatusOr<UniqueFd> file = OpenAndDescribe(request);
    if (!file.ok()) {
      ++read_errors_;
      return;
    }
    ++events_;
    if (shim_->Call(request).allowed()) return;
    ++denied_;
    std::rename(path.c_str(), absl::StrCat(path, ".denied").c_str());
  }

  std::unique_ptr<EmbeddedShim> shim_;
  UniqueFd inotify_;
  UniqueFd stop_;
  std::mutex mutex_;
  std::map<int, GuardSpec> guards_;  // by inotify's number
  std::atomic<uint64_t> events_{0}, denied_{0}, read_errors_{0};
  std::thread thread_;
};

}  // namespace

constinit const AttachmentKind kInboxAttachment = {
    .name = "inbox",
    .summary = "files are asked about when they were written (an example)",
    .remedy = "raise fs.inotify.max_user_instances",
    .capabilities = kGuardsFolders,
    .counters = kCounters,
    .probe = [] { return InboxAttachment::Create({}).status(); },
    .create = InboxAttachment::Create,
};

}  // namespace bulkhead
