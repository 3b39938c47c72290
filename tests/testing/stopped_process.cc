// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/stopped_process.h"

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

bool HasStopped(pid_t pid) {
  std::error_code error;
  std::filesystem::directory_iterator task("/proc/" + std::to_string(pid) + "/task", error);
  for (; !error && task != std::filesystem::directory_iterator(); task.increment(error)) {
    std::ifstream stat(task->path() / "stat");
    std::string line;
    std::getline(stat, line);
    if (line.find(") T ") == std::string::npos) return false;
  }
  return !error;
}

}  // namespace

bool StopProcess(pid_t pid, uint64_t until_ns) {
  if (pid <= 1 || kill(pid, SIGSTOP) != 0) return false;
  while (!HasStopped(pid)) {
    if (kill(pid, 0) != 0 || MonotonicNowNs() > until_ns) return false;
  }
  return true;
}

}  // namespace bulkhead
