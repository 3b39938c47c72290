// SPDX-License-Identifier: Apache-2.0
//
// The load of kernel.notifications on the guest's kernel.
//
//   flood forks N        N processes that exit at once, from the last CPU; prints their number
//   flood opens FILE N   opens FILE N times; prints the microseconds of the median and of p99
//   flood moves DIR      creates, writes, renames and deletes DIR/a
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr int kAliveMax = 16;

int Forks(long wanted) {
  cpu_set_t last;
  CPU_ZERO(&last);
  CPU_SET(static_cast<size_t>(sysconf(_SC_NPROCESSORS_ONLN) - 1), &last);
  if (sched_setaffinity(0, sizeof(last), &last) != 0) return 1;
  long forked = 0, reaped = 0;
  while (reaped < wanted) {
    if (forked < wanted && forked - reaped < kAliveMax) {
      const pid_t pid = fork();
      if (pid == 0) _exit(0);
      if (pid < 0) return 1;
      ++forked;
    } else if (wait(nullptr) > 0) {
      ++reaped;
    }
  }
  std::printf("%ld\n", forked);
  return 0;
}

int Opens(const char* path, size_t count) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> spans_us;
  spans_us.reserve(count);
  while (spans_us.size() < count) {
    const Clock::time_point begin = Clock::now();
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const Clock::time_point end = Clock::now();
    if (fd < 0) return 1;
    close(fd);
    spans_us.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
  }
  std::sort(spans_us.begin(), spans_us.end());
  std::printf("%.0f %.0f\n", spans_us[count / 2], spans_us[count * 99 / 100]);
  return 0;
}

int Moves(const std::string& folder) {
  const std::string before = folder + "/a", after = folder + "/b";
  const int fd = open(before.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool written = fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0;
  return written && rename(before.c_str(), after.c_str()) == 0 && unlink(after.c_str()) == 0 ? 0
                                                                                             : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "forks" && argc == 3) return Forks(std::atol(argv[2]));
  if (what == "opens" && argc == 4) return Opens(argv[2], static_cast<size_t>(std::atol(argv[3])));
  if (what == "moves" && argc == 3) return Moves(argv[2]);
  std::fputs("Usage: flood forks N | opens FILE N | moves DIR\n", stderr);
  return 2;
}
