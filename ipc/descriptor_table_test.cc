// SPDX-License-Identifier: Apache-2.0
#include "ipc/descriptor_table.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace bulkhead {
namespace {

// As the kernel says.
int LengthOfTable() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("FDSize:")) return std::stoi(line.substr(7));
  }
  return -1;
}

ptrdiff_t OpenDescriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

// The code of `body` in a process of its own.
template <typename Body>
int CodeOf(const Body& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(DescriptorTable, IsAsLongAsAskedForAndHoldsNothingMore) {
  EXPECT_EQ(CodeOf([] {
              rlimit limit = {};
              if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < 1024) return 77;
              const ptrdiff_t before = OpenDescriptors();
              if (LengthOfTable() >= 1024) return 1;
              ReserveDescriptors(1024);
              if (LengthOfTable() < 1024) return 2;
              return OpenDescriptors() == before ? 0 : 3;
            }),
            0);
}

TEST(DescriptorTable, TheLimitBoundsIt) {
  EXPECT_EQ(CodeOf([] {
              const rlimit few = {.rlim_cur = 128, .rlim_max = 128};
              if (setrlimit(RLIMIT_NOFILE, &few) != 0) return 1;
              ReserveDescriptors(1024);
              return LengthOfTable() < 1024 ? 0 : 2;
            }),
            0);
}

TEST(DescriptorTable, WithoutADescriptorItStaysAsItIs) {
  EXPECT_EQ(CodeOf([] {
              const rlimit none = {.rlim_cur = 0, .rlim_max = 0};
              if (setrlimit(RLIMIT_NOFILE, &none) != 0) return 1;
              ReserveDescriptors(1024);
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace bulkhead
