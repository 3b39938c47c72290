// SPDX-License-Identifier: Apache-2.0
//
// FakeHostProcess, FakeSpawner: the spawner gives the supervisor processes that do not exist, and
// the test says and hears at the other end of their control sockets whatever it likes. FakeShimLink
// is a shim that accepts every request and makes no call.
#ifndef BULKHEAD_TESTS_TESTING_FAKE_HOST_PROCESSES_H_
#define BULKHEAD_TESTS_TESTING_FAKE_HOST_PROCESSES_H_

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/spawner.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/shared_memory.h"
#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class FakeHostProcess {
 public:
  ControlSocket control;
  std::string driver;       // known once it has read its Attach
  uint32_t generation = 0;  // likewise
  bool standby = false;     // likewise

  absl::Status SayHello();
  absl::Status SaySandboxed(uint32_t layers, std::vector<std::string> lacks = {});
  absl::Status SayStarted(uint32_t of_generation);
  // Reads until Attach comes.
  absl::Status ReadAttach(uint64_t until_ns);
  // Of a standby.
  absl::Status SayReady();
  // Reads until Serve comes.
  absl::Status ReadServe(uint64_t until_ns);
  void Write(const std::string& text);  // to its standard error
  void Die();                           // of SIGSEGV

  std::optional<LifeLine> life_line;       // as Attach brought it
  std::optional<SharedMemory> log_memory;  // likewise
  std::atomic<bool> is_ending = false;
  std::atomic<uint64_t> ending_asked = 0;  // how often that was asked
  std::atomic<bool> hangs = false;         // in the kernel: no signal ends it

  // As its spawner tells; below 0: nothing.
  std::atomic<int64_t> sleeps = -1;
  std::atomic<uint64_t> sleeps_asked = 0;  // for how often

 private:
  friend class FakeSpawner;
  void End(int signal);
  UniqueFd ended_;  // an eventfd: the supervisor has it as the process's pidfd
  UniqueFd error_output_;
  std::atomic<int> signal_ = 0;
};

// Its spawner's functions are called from the supervisor's thread, the others from the test's.
class FakeSpawner final : public Spawner {
 public:
  absl::StatusOr<ChildProcess> Spawn(UniqueFd control, const HostLimits&) override;
  HostCgroup FindGroup(const std::string&) override { return HostCgroup(); }
  absl::Status LetRun(ChildProcess& child) override;
  ChildExit Exit(const ChildProcess& child) override;
  void Reap(ChildProcess& child) override;
  void Kill(const ChildProcess& child) override;
  std::optional<ChildExit> Ending(const ChildProcess& child) override;
  bool HasLeft(const ChildProcess& child) override;
  std::optional<uint64_t> SleepCount(const ChildProcess& child) override;

  // The next that was let run and not taken yet, silent so far.
  absl::StatusOr<std::shared_ptr<FakeHostProcess>> Next(uint64_t until_ns);
  // The next of this driver, with its Attach read; those of others are kept for later.
  absl::StatusOr<std::shared_ptr<FakeHostProcess>> Attached(const std::string& driver,
                                                            uint64_t until_ns);

 private:
  std::shared_ptr<FakeHostProcess> Find(pid_t pid);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<FakeHostProcess>> silent_;
  std::map<pid_t, std::shared_ptr<FakeHostProcess>> living_;
  pid_t newest_ = 1 << 30;                                 // beyond any real one
  std::deque<std::shared_ptr<FakeHostProcess>> attached_;  // the test's alone
};

// Requests can be held, as by a shim that is slow or never answers.
class FakeShimLink final : public ShimLink {
 public:
  // Requests about this channel wait from here on; HoldAll(): all do, those about processes too.
  void Hold(ChannelId channel);
  void HoldAll();
  void LetGo();
  // False when no request was held by until_ns.
  bool WaitUntilHeld(uint64_t until_ns);
  // So many times BeginGeneration fails as by a shim that is not there.
  std::atomic<int> absent_begins = 0;
  // So many times Descriptors does.
  std::atomic<int> absent_channels = 0;
  // How often Statistics was asked; the `calls` of its answer.
  std::atomic<uint64_t> statistics_asked = 0;
  std::atomic<bool> statistics_fail = false;
  std::atomic<uint64_t> let_through = 0;  // its answer's

  void SetObserver(Observer*) override {}
  absl::StatusOr<ChannelId> AddChannel(const ChannelSpec&) override { return channels_++; }
  absl::StatusOr<ChannelDescriptors> Descriptors(ChannelId channel) override;
  absl::Status BeginGeneration(ChannelId channel, const bh_generation_spec&, UniqueFd) override;
  absl::StatusOr<bh_in_hand> EndGeneration(ChannelId channel, uint32_t, bh_end) override {
    const absl::Status status = Pass(channel);
    if (!status.ok()) return status;
    return bh_in_hand();
  }
  absl::Status SetState(ChannelId channel, bool, bool) override { return Pass(channel); }
  absl::Status SetPolicy(ChannelId channel, const bh_policy&) override { return Pass(channel); }
  absl::StatusOr<bh_statistics> Statistics(ChannelId channel) override;
  absl::Status Exclude(pid_t) override { return Pass(std::nullopt); }
  absl::Status Include(pid_t) override { return Pass(std::nullopt); }

 private:
  absl::Status Pass(std::optional<ChannelId> channel);

  ChannelId channels_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<ChannelId> held_;
  bool all_held_ = false;
  int waiting_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_FAKE_HOST_PROCESSES_H_
