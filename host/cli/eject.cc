// SPDX-License-Identifier: Apache-2.0
#include "host/cli/eject.h"

#include <cstdio>
#include <memory>

#include "CLI/CLI.hpp"
#include "host/attachment/module/module_operator.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kUnloadsWithinNs = 10 * kNanosecondsPerSecond;

int RunEject(const Program& program, bool unload) {
  if (!ModuleLoaded()) {
    std::printf("the kernel module is not loaded: nothing to eject\n");
    return kExitOk;
  }
  if (absl::Status status = EjectModule(); !status.ok()) return Complain(status);
  std::printf("ejected: nothing is guarded any more, and whoever waited goes on\n");
  if (!unload) {
    for (const ModuleHolder& holder : ModuleHolders()) {
      if (!holder.supervisor) continue;
      std::printf(
          "%s (pid %d) still runs, and serves nobody: end it with 'bulkhead stop --pid %d'\n",
          Printable(holder.program).c_str(), holder.pid, holder.pid);
    }
    return kExitOk;
  }
  const absl::Status status =
      UnloadModule(program.now_ns() + kUnloadsWithinNs, [](const ModuleHolder& holder) {
        std::printf("killed %s (pid %d): %s\n", Printable(holder.program).c_str(), holder.pid,
                    holder.supervisor ? "it had /dev/bulkhead" : "it had a host's channel");
      });
  if (absl::IsFailedPrecondition(status)) {
    std::fprintf(stderr, "bulkhead: %s\n", std::string(status.message()).c_str());
    return kExitFailed;
  }
  if (!status.ok()) return Complain(status);
  std::printf("unloaded\n");
  return kExitOk;
}

}  // namespace

void AddEject(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto unload = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "eject", "Stop the kernel module's guarding at once, whatever its supervisor does (root)");
  command->add_flag(
      "--unload", *unload,
      "Also kill the supervisor and the hosts (SIGKILL), and unload the module; 1: it "
      "is still in use");
  command->callback([&program, unload, run] {
    *run = [&program, unload] { return RunEject(program, *unload); };
  });
}

}  // namespace bulkhead
