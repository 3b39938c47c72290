// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/storm_files.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr uint64_t kLateSlackNs = 100 * kNanosecondsPerMillisecond;
constexpr size_t kFiles = 64;
// Nothing that a kernel can execute: an allowed execution fails with ENOEXEC and starts no process.
constexpr std::string_view kContent = "no program\n";

}  // namespace

absl::StatusOr<StormFiles> StormFiles::Create(const std::string& folder, uint64_t deadline_ns,
                                              std::string_view denied_content) {
  StormFiles made;
  made.deadline_ns_ = deadline_ns;
  for (size_t i = 0; i < kFiles; ++i) {
    File file = {absl::StrCat(folder, "/file-", i)};
    const bool by_content = !denied_content.empty() && i % 4 == 0;
    const std::string_view content = by_content ? denied_content : kContent;
    const UniqueFd written(open(file.path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0755));
    struct stat status = {};
    if (!written.valid() ||
        write(written.get(), content.data(), content.size()) !=
            static_cast<ssize_t>(content.size()) ||
        fstat(written.get(), &status) != 0) {
      return absl::ErrnoToStatus(errno, file.path);
    }
    file.denied = by_content || (status.st_ino & 1) != 0;
    made.files_.push_back(std::move(file));
  }
  return made;
}

void StormFiles::Judge(const File& file, const std::function<int(const File&)>& access,
                       const std::atomic<uint64_t>& unguarded, Killer& killer, Tally& tally) const {
  const uint64_t before = unguarded.load();
  const uint64_t started_ns = MonotonicNowNs();
  const int error = access(file);
  const uint64_t ended_ns = MonotonicNowNs();
  const bool guarded = before % 2 == 0 && unguarded.load() == before;
  killer.Completed(started_ns, ended_ns);
  // SUBTLE: a reader of the count meanwhile only waits for it to grow.
  tally.calls.fetch_add(1, std::memory_order_relaxed);
  if (error != 0 && error != EPERM) tally.errors.fetch_add(1);
  if ((error == EPERM) != file.denied) {
    (file.denied && !guarded ? tally.unguarded : tally.wrong).fetch_add(1);
  }
  const uint64_t took_ns = ended_ns - started_ns;
  if (took_ns > deadline_ns_ + kLateSlackNs) tally.late.fetch_add(1);
  // SUBTLE: a guess, which the exchange puts right.
  uint64_t longest = tally.longest_ns.load(std::memory_order_relaxed);
  while (took_ns > longest && !tally.longest_ns.compare_exchange_weak(longest, took_ns)) {
  }
}

void StormFiles::Open(uint64_t number, const std::atomic<uint64_t>& unguarded, Killer& killer,
                      Tally& tally) const {
  Judge(
      files_[number % files_.size()],
      [](const File& file) {
        const UniqueFd opened(open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
        return opened.valid() ? 0 : errno;
      },
      unguarded, killer, tally);
}

void StormFiles::Execute(uint64_t number, const std::atomic<uint64_t>& unguarded, Killer& killer,
                         Tally& tally) const {
  Judge(
      files_[number % files_.size()],
      [](const File& file) {
        // A child of its own: executions within one process wait for each other.
        char* const words[] = {const_cast<char*>(file.path.c_str()), nullptr};
        pid_t child = -1;
        const int error =
            posix_spawn(&child, file.path.c_str(), nullptr, nullptr, words, words + 1);
        if (error == 0) waitpid(child, nullptr, 0);
        return error == ENOEXEC ? 0 : error;
      },
      unguarded, killer, tally);
}

}  // namespace bulkhead
