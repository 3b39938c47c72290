// SPDX-License-Identifier: Apache-2.0
#include "host/service/hosts_scope.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "host/supervisor/host_cgroup.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr char kAddress[] = "unix:path=/run/systemd/private";
constexpr char kName[] = "org.freedesktop.systemd1";
constexpr char kPath[] = "/org/freedesktop/systemd1";
constexpr uint64_t kWithinNs = 5 * kNanosecondsPerSecond;
constexpr int kAgainMs = 10;
constexpr uint64_t kStopsWithinUs = 10'000'000;  // its processes are killed then

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// "0::/system.slice/bulkhead.service\n" and no other line: no hierarchy of version 1.
std::string PathIn(const std::string& groups) {
  absl::string_view line = groups;
  if (!absl::ConsumePrefix(&line, "0::/") || !absl::ConsumeSuffix(&line, "\n")) return "";
  return absl::StrContains(line, '\n') ? "" : absl::StrCat("/", line);
}

absl::Status Failed(const char* what, int error, const sd_bus_error& told) {
  return absl::UnavailableError(
      absl::StrCat(what, ": ", told.message != nullptr ? told.message : std::strerror(-error)));
}

// The job is done later.
absl::Status StartScope(const std::string& unit, const std::string& slice,
                        const std::string& service, pid_t store) {
  sd_bus* bus = nullptr;
  sd_bus_message* call = nullptr;
  sd_bus_error told = SD_BUS_ERROR_NULL;
  const absl::Cleanup free = [&] {
    sd_bus_error_free(&told);
    sd_bus_message_unref(call);
    sd_bus_close_unref(bus);
  };
  int error = sd_bus_new(&bus);
  if (error >= 0) error = sd_bus_set_address(bus, kAddress);
  if (error >= 0) error = sd_bus_start(bus);
  if (error < 0) return Failed("systemd can't be reached at /run/systemd/private", error, told);
  error = sd_bus_message_new_method_call(bus, &call, kName, kPath,
                                         "org.freedesktop.systemd1.Manager", "StartTransientUnit");
  if (error >= 0) {
    // At the machine's end the service ends first, and in order.
    error = sd_bus_message_append(call, "ssa(sv)a(sa(sv))", unit.c_str(), "fail", 10,  //
                                  "Description", "s",
                                  "Bulkhead: store, shim and hosts, which outlive the service",  //
                                  "Documentation", "as", 1, "man:bulkheadd(8)",                  //
                                  "Slice", "s", slice.c_str(),                                   //
                                  "PIDs", "au", 1, static_cast<uint32_t>(store),                 //
                                  "Delegate", "b", 1,                                            //
                                  "DefaultDependencies", "b", 0,                                 //
                                  "Conflicts", "as", 1, "shutdown.target",                       //
                                  "Before", "as", 2, "shutdown.target", service.c_str(),         //
                                  "TimeoutStopUSec", "t", kStopsWithinUs,                        //
                                  "CollectMode", "s", "inactive-or-failed",                      //
                                  0);
  }
  if (error >= 0) {
    error = sd_bus_call(bus, call, kWithinNs / 1000, &told, nullptr);
  }
  return error < 0 ? Failed("systemd refuses", error, told) : absl::OkStatus();
}

}  // namespace

HostsScope HostsScope::Of(const std::string& groups, const std::string& mount) {
  const std::string path = PathIn(groups);
  const size_t slash = path.rfind('/');
  if (slash == path.npos || slash == 0) return {};
  absl::string_view name = absl::string_view(path).substr(slash + 1);
  const std::string above = path.substr(0, slash);
  if (!absl::ConsumeSuffix(&name, ".service") || !absl::EndsWith(above, ".slice")) return {};
  HostsScope scope = {.unit = absl::StrCat(name, "-hosts.scope"), .folder = "", .members = ""};
  scope.folder = absl::StrCat(mount, above, "/", scope.unit);
  scope.members = absl::StrCat(scope.folder, "/", kServiceGroup, "/cgroup.procs");
  return scope;
}

absl::Status HostsScope::Enter(pid_t store) const {
  const std::string above = folder.substr(0, folder.rfind('/'));
  const std::string slice = above.substr(above.rfind('/') + 1);
  const std::string service = absl::StrCat(absl::StripSuffix(unit, "-hosts.scope"), ".service");
  const std::string groups = absl::StrCat("/proc/", store, "/cgroup");
  const std::string own = absl::StrCat("/", slice, "/", unit, "/", kServiceGroup, "\n");
  const uint64_t until_ns = MonotonicAfterNs(kWithinNs);
  absl::Status status = absl::DeadlineExceededError("systemd did not make it within 5 s");
  bool asked = false;
  for (;;) {
    if (absl::EndsWith(ReadAll(groups), own)) return absl::OkStatus();
    if (access(folder.c_str(), F_OK) == 0) {
      // Its own processes may be in subgroups only, or none of those can be limited.
      (void)mkdir(members.substr(0, members.rfind('/')).c_str(), 0755);
      const UniqueFd file(open(members.c_str(), O_WRONLY | O_CLOEXEC));
      const std::string id = absl::StrCat(store);
      // Not before systemd itself has moved it: it would move it out of the subgroup again. One
      // that is still there of a service before takes it at once.
      if (!asked || absl::StrContains(ReadAll(groups), unit)) {
        if (file.valid() && write(file.get(), id.data(), id.size()) > 0) return absl::OkStatus();
        status = absl::ErrnoToStatus(errno, members);
      }
    } else if (!asked) {
      if (absl::Status started = StartScope(unit, slice, service, store); started.ok()) {
        asked = true;
      } else {
        status = std::move(started);  // the one before is about to go
      }
    }
    if (MonotonicNowNs() > until_ns) return status;
    poll(nullptr, 0, kAgainMs);
  }
}

}  // namespace bulkhead
