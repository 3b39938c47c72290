// SPDX-License-Identifier: Apache-2.0
#include "host/harness/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/log_ring_unsafe.h"
#include "ipc/monotonic.h"
#include "ipc/shared_memory.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr int kLookMs = 1000;

int WaitMs(uint64_t until_ns) {
  const uint64_t now_ns = MonotonicNowNs();
  if (until_ns <= now_ns) return 0;
  return static_cast<int>(
      std::min<uint64_t>((until_ns - now_ns) / kNanosecondsPerMillisecond + 1, kLookMs));
}

// What is there. False: every writer is gone.
bool ReadSome(int fd, std::string* tail) {
  std::array<char, 4096> bytes;
  for (;;) {
    const ssize_t count = read(fd, bytes.data(), bytes.size());
    if (count == 0) return false;
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    tail->append(bytes.data(), static_cast<size_t>(count));
    if (tail->size() > kChildErrorBytesMax) tail->erase(0, tail->size() - kChildErrorBytesMax);
  }
}

std::string LinesOf(const LogRing::Left& left) {
  constexpr const char* kLevels[] = {"debug", "info", "warning", "error"};
  const uint64_t before = left.lines.empty() ? 0 : left.lines.front().number - 1;
  std::string text = before == 0 ? "" : absl::StrCat("(", before, " lines before)\n");
  for (const LogRing::Line& line : left.lines) {
    absl::StrAppend(&text, kLevels[line.level], ": ", line.text, "\n");
  }
  if (left.dropped > before) {
    absl::StrAppend(&text, "(", left.dropped - before, " lines found no room)\n");
  }
  return text;
}

[[noreturn]] void BeChild(const std::function<int(std::span<std::byte>)>& body, int errors,
                          pid_t parent, std::span<std::byte> log) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent || dup2(errors, STDERR_FILENO) < 0) _exit(127);
  const int code = body(log);
  std::fflush(nullptr);
  _exit(code);
}

}  // namespace

absl::StatusOr<ChildEnd> RunInChild(const std::function<int(std::span<std::byte>)>& body,
                                    uint64_t within_ns) {
  absl::StatusOr<SharedMemory> log = SharedMemory::Create("bulkhead-test-log", LogRing::kBytes);
  if (!log.ok()) return log.status();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd errors(ends[0]);
  UniqueFd writer(ends[1]);
  (void)fcntl(errors.get(), F_SETFL, O_NONBLOCK);
  std::fflush(nullptr);  // else the child writes it a second time
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child == 0) BeChild(body, writer.get(), parent, {log->data(), log->bytes()});
  writer.reset();
  const UniqueFd ended(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));

  ChildEnd end;
  const uint64_t until_ns = MonotonicAfterNs(within_ns);
  bool reads = true, runs = true;
  while (runs) {
    pollfd ready[] = {{ended.get(), POLLIN, 0}, {reads ? errors.get() : -1, POLLIN, 0}};
    (void)poll(ready, 2, WaitMs(until_ns));
    if (reads) reads = ReadSome(errors.get(), &end.error_output);
    runs = (ready[0].revents & POLLIN) == 0;
    if (runs && MonotonicNowNs() >= until_ns && !end.hung) {
      end.hung = true;
      kill(child, SIGKILL);
    }
  }
  if (reads) (void)ReadSome(errors.get(), &end.error_output);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    end.signal = WTERMSIG(status);
    end.text = absl::StrCat("signal ", end.signal, " (", strsignal(end.signal), ")");
  } else {
    end.exit_code = WEXITSTATUS(status);
    end.text = absl::StrCat("exit code ", end.exit_code);
  }
  if (end.hung) end.text = "it did not end in time, and was killed";
  end.last_lines = LinesOf(LogRing::ReadLeft({log->data(), log->bytes()}, 0));
  return end;
}

}  // namespace bulkhead
