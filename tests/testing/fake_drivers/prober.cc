// SPDX-License-Identifier: Apache-2.0
//
// Tries forbidden accesses before the host has called any of its functions, as a hostile driver
// would: from a constructor, which runs inside dlopen(). It starts only if all of them were
// refused.
#include <bulkhead/driver.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

// The accesses that succeeded and must not.
std::string& Found() {
  // Created on first use: a constructor may run before the variables of its own file are
  // initialised.
  static std::string found;
  return found;
}

void Expect(bool locked, const std::string& what) {
  if (!locked) Found() += (Found().empty() ? "" : ", ") + what;
}

void LookAtStatus() {
  std::ifstream status("/proc/self/status");
  int lines = 0;
  for (std::string line; std::getline(status, line);) {
    const size_t colon = line.find(":\t");
    const std::string name = line.substr(0, colon);
    const std::string value = colon == std::string::npos ? "" : line.substr(colon + 2);
    if (name == "CapEff" || name == "CapPrm" || name == "CapInh" || name == "CapAmb") {
      Expect(std::strtoull(value.c_str(), nullptr, 16) == 0, "capabilities " + line);
    } else if (name == "NoNewPrivs") {
      Expect(value == "1", "new privileges");
    } else if (name == "Seccomp") {
      Expect(value == "2", "every system call");
    } else {
      continue;
    }
    ++lines;
  }
  Expect(lines >= 5, "an unreadable /proc/self/status");
}

// Files that the parent of the host left open. 0 to 2 are used by the host.
void LookAtDescriptors() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    if (std::atoi(entry.path().filename().c_str()) <= STDERR_FILENO) continue;
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    const bool own = target.starts_with("/proc/") || target.starts_with("/memfd:");
    Expect(gone || own || !target.starts_with("/"), "the file " + target);
  }
}

__attribute__((constructor)) void LookAround() {
  Expect(socket(AF_INET, SOCK_STREAM, 0) < 0, "a socket");
  Expect(open("/dev/null", O_WRONLY | O_CLOEXEC) < 0, "a file to write");
  for (const char* file : {"/etc/passwd", "/etc/shadow", "/proc/1/environ", "/root", "/tmp", "/"}) {
    Expect(open(file, O_RDONLY | O_CLOEXEC) < 0, std::string("the file ") + file);
  }
  const int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  Expect(random >= 0, "no random numbers");
  close(random);
  Expect(kill(getppid(), 0) != 0, "a signal to the supervisor");
  Expect(prlimit(getppid(), RLIMIT_NOFILE, nullptr, nullptr) != 0, "the supervisor's limits");
  const long child = syscall(SYS_fork);
  if (child == 0) _exit(0);
  Expect(child < 0, "a child");
  Expect(prctl(PR_GET_DUMPABLE) == 0, "core dumps");
  rlimit core = {1, 1};
  Expect(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0, "a limit for core dumps");
  LookAtStatus();
  LookAtDescriptors();
}

int Start(const bulkhead_host*, const bulkhead_start*, void**, char* error, size_t error_bytes) {
  if (Found().empty()) return 0;
  std::snprintf(error, error_bytes, "found %s", Found().c_str());
  return -1;
}

}  // namespace

extern "C" const bulkhead_driver_description* bulkhead_driver(void) {
  static const bulkhead_driver_description description = {
      .size = sizeof(bulkhead_driver_description),
      .abi = BULKHEAD_DRIVER_ABI,
      .name = "prober",
      .version = "1",
      .callbacks = nullptr,
      .descriptors = nullptr,
      .start = &Start,
      .stop = nullptr,
      .file_open = nullptr,
      .file_exec = nullptr,
      .file_access = nullptr,
  };
  return &description;
}
