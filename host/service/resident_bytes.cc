// SPDX-License-Identifier: Apache-2.0
#include "host/service/resident_bytes.h"

#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

uint64_t ResidentBytesOf(uint32_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  uint64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

std::vector<std::pair<std::string, uint64_t>> ResidentBytes(const StatusFields& status) {
  std::vector<std::pair<std::string, uint64_t>> bytes;
  bytes.emplace_back("service", ResidentBytesOf(status.pid));
  if (status.shim_pid != 0) bytes.emplace_back("shim", ResidentBytesOf(status.shim_pid));
  for (const DriverStatusFields& driver : status.drivers) {
    if (driver.pid == 0) continue;
    bytes.emplace_back(absl::StrCat("host:", driver.name), ResidentBytesOf(driver.pid));
  }
  return bytes;
}

}  // namespace bulkhead
