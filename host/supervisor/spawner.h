// SPDX-License-Identifier: Apache-2.0
//
// Spawner: starts a host process, and tells how it ended. An interface, so that tests can give out
// processes that do not exist.
#ifndef BULKHEAD_HOST_SUPERVISOR_SPAWNER_H_
#define BULKHEAD_HOST_SUPERVISOR_SPAWNER_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/supervisor/host_cgroup.h"
#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

struct ChildProcess {
  pid_t pid = -1;                     // in our process id namespace
  UniqueFd pidfd;                     // readable when it has ended
  UniqueFd stat;                      // /proc/PID/stat: how it is ending
  UniqueFd error_output;              // what it writes to standard error; non-blocking
  UniqueFd gate;                      // until LetRun: the child waits at the other end
  std::optional<uint64_t> oom_kills;  // OomKills() when it was started
  std::string processes_lack;         // why it is in our process id namespace; empty: it has one
  HostCgroup group;                   // its control group
  std::string group_lacks;            // why it has none
};

// Of a child that was not reaped yet; without its error output.
absl::StatusOr<ChildProcess> OpenChild(pid_t pid);
// The same of a process of which another has left a pidfd. One that has ended is no error.
ChildProcess OpenLeftChild(pid_t pid, UniqueFd pidfd);

// What a host gets of this environment (a list that ends with a null): its language and time zone,
// nothing that an operator's shell or service manager has put there.
std::vector<std::string> HostEnvironment(char* const* ours);

struct ChildExit {
  bh_end end = BH_END_CRASHED;  // as bh_end_of_exit() says, or BH_END_STARVED
  std::string text;             // "exit code 3", "signal 11 (Segmentation fault)": of the signal
                                // itself, or of an exit code that stands for it (ipc/abi/end.h)
};

class Spawner {
 public:
  virtual ~Spawner() = default;
  // Starts a host whose end of the control socket is `control`. The child waits until LetRun(),
  // and has run nothing of its own by then. Its allocations beyond the limit of memory fail.
  virtual absl::StatusOr<ChildProcess> Spawn(UniqueFd control, const HostLimits& limits) = 0;
  // The control group of a host that was left, by its name.
  virtual HostCgroup FindGroup(const std::string& name) = 0;
  // Unavailable: it has ended.
  virtual absl::Status LetRun(ChildProcess& child) = 0;
  // How the child ended. Its id stays its own until Reap(). Of one that was left by another process
  // that is not known: it counts as crashed.
  // REQUIRES: the child's pidfd is readable.
  virtual ChildExit Exit(const ChildProcess& child) = 0;
  // REQUIRES: the child's pidfd is readable. Afterwards its id may come back.
  virtual void Reap(ChildProcess& child) = 0;
  virtual void Kill(const ChildProcess& child) = 0;
  // How a child that is ending will have ended. Nothing while it is not, when it leaves with exit
  // code 0, and where that can't be known before its pidfd is readable.
  virtual std::optional<ChildExit> Ending(const ChildProcess& child) = 0;
  // Whether nothing of a child that is ending runs or waits in a call of the kernel's any more: it
  // writes to no memory that it shares. False, too, where that can't be known.
  virtual bool HasLeft(const ChildProcess& child) = 0;
  // How often the child's first thread has gone to sleep. Nothing while it does not sleep, or can't
  // be woken, and where that can't be known.
  virtual std::optional<uint64_t> SleepCount(const ChildProcess& child) = 0;
};

// The real one: runs `program --control-fd 3` with nothing else open, as the first process of a
// process id namespace, and, without root, of a user namespace that goes with it. Where the kernel
// refuses that, without them: the child says why. The other namespaces are the host's to enter: it
// knows what it is granted (host/process/namespaces.h).
//
// A build with sanitizers has no namespaces, for their runtimes must know of each fork, and no
// limit of memory, of which they reserve terabytes.
class ProcessSpawner final : public Spawner {
 public:
  // `groups`: where its hosts get theirs; outlives it. Null: they get none. `die_with_us`: the
  // kernel ends them with the thread that starts them; else they end when the last copy of their
  // control socket's other end is closed.
  explicit ProcessSpawner(std::string program, HostCgroups* groups = nullptr,
                          bool die_with_us = true)
      : program_(std::move(program)), groups_(groups), die_with_us_(die_with_us) {}
  absl::StatusOr<ChildProcess> Spawn(UniqueFd control, const HostLimits& limits) override;
  HostCgroup FindGroup(const std::string& name) override;
  absl::Status LetRun(ChildProcess& child) override;
  ChildExit Exit(const ChildProcess& child) override;
  void Reap(ChildProcess& child) override;
  void Kill(const ChildProcess& child) override;
  std::optional<ChildExit> Ending(const ChildProcess& child) override;
  bool HasLeft(const ChildProcess& child) override;
  std::optional<uint64_t> SleepCount(const ChildProcess& child) override;

 private:
  const std::string program_;
  HostCgroups* const groups_;
  const bool die_with_us_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_SPAWNER_H_
