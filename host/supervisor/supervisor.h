// SPDX-License-Identifier: Apache-2.0
//
// Supervisor: starts the hosts of its drivers, watches them, starts them again when they end, puts
// content in force and takes it back, and tells the shim what serves. Lifecycle decides; Driver
// carries it out on the supervisor's loop.
//
//   Supervisor supervisor(options);                 // link, spawner, clock and chance come in
//   supervisor.AddDriver(config);                   // each driver, before Start
//   supervisor.Start();                             // a thread of its own from here on
//   supervisor.WaitUntilServing("scanner", until);
//   ...
//   supervisor.Stop();                              // drains, then kills; bounded
//
// The loop waits for nothing but its own poll: requests to the shim are carried by a LinkQueue,
// messages to hosts are sent or given up, and what others ask is answered from a published snapshot
// (status_snapshot.h).
//
// Threads: every function from any thread; AddDriver before Start. All processes are started by the
// loop, and are killed by the kernel when that ends.
#ifndef BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_H_
#define BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/driver.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/link_queue.h"
#include "host/supervisor/loop_inbox.h"
#include "host/supervisor/spawner.h"
#include "host/supervisor/status_snapshot.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/let_through_watch.h"
#include "ipc/mutex.h"
#include "ipc/shim_link.h"

namespace bulkhead {

class Supervisor final : private ShimLink::Observer {
 public:
  struct Options {
    // Shared with the thread of each request that the shim never answers.
    std::shared_ptr<ShimLink> link;
    Spawner* spawner = nullptr;  // not owned; outlives this
    // For the supervisor after this one, and with what one before has left. Not owned; outlives
    // this. Null: hosts end with this one.
    DescriptorStore* store = nullptr;
    std::string run_folder;  // private, exists; content copies are kept below it
    std::string attachment;  // for the status
    LifecycleLimits limits;
    uint64_t heartbeat_every_ns = 1'000'000'000;  // idle hosts are not pinged: idle_watch.h
    uint64_t heartbeat_missed_ns = 5'000'000'000;
    uint32_t sandbox = BH_LAYERS_ALL;  // layers that hosts enter, where the machine has them
    bh_sandbox_level sandbox_required = BH_SANDBOX_NONE;  // hosts below it do not start
    std::function<uint64_t()> now_ns;
    std::function<uint64_t()> chance;
    // Called from the loop; must not wait and must not call back. May be empty.
    std::function<void(const DriverEvent&)> on_event;
  };

  explicit Supervisor(Options options);
  ~Supervisor() override;  // Stop()s

  // Copies the content, makes the channel. Errors are for the operator.
  absl::Status AddDriver(const DriverConfig& config);
  absl::Status Start();
  // Drains every host, kills what does not end in time, and ends the threads. Bounded, whatever
  // hosts and shim do.
  void Stop();

  // FailedPrecondition with the reason when the driver is quarantined; DeadlineExceeded.
  absl::Status WaitUntilServing(const std::string& driver, uint64_t until_ns);
  // Copies the folder and puts it in force. The version when it serves; FailedPrecondition with the
  // reason when it was rolled back; Aborted when another thread is at it for this driver; Cancelled
  // when the supervisor stops meanwhile.
  absl::StatusOr<uint64_t> SetContent(const std::string& driver, const std::string& folder,
                                      uint64_t until_ns);
  // As SetContent(), with these options of the operator's, which stay; unless both are in force
  // already: then that version, at once. Without a folder the content stays as it is.
  absl::StatusOr<uint64_t> SetReleaseIfChanged(const std::string& driver, const std::string& folder,
                                               const std::string& options, uint64_t until_ns);
  // What calls without an answer get from now on. The shim's error; DeadlineExceeded when it does
  // not answer by then.
  absl::Status SetPolicy(const std::string& driver, const bh_policy& policy, uint64_t until_ns);
  // Starts a quarantined driver again, with its budgets as new; returns when it serves.
  // Of a driver that serves, lifts the quarantine of calls. FailedPrecondition: it does not start
  // (the reason), or nothing is quarantined.
  // DeadlineExceeded; Cancelled when the supervisor stops meanwhile.
  absl::Status LiftQuarantine(const std::string& driver, uint64_t until_ns);

  // Counts are fetched from the shim first. What it does not answer within three quarters of a
  // second is as old as its age says. Takes nothing that the loop or another caller waits for.
  // Without `words`: without texts that a driver wrote.
  StatusFields Status(bool words = true);
  // Whether the loop has taken in, by then, what is posted to it now: a watchdog's question.
  bool Turns(uint64_t until_ns);
  // What any of the drivers is asked about; what one is that is not audited.
  bh_callback_set AskedAbout() const;
  bh_callback_set EnforcedAbout() const;
  // Process id of the driver's host; -1 when there is none. For tests and storms that kill it.
  pid_t HostPid(const std::string& driver) const;
  std::vector<RecoverySample> Recoveries(const std::string& driver) const;

 private:
  // ShimLink::Observer
  void OnHung(ChannelId channel, uint32_t generation, uint64_t call_id, uint32_t held_ms) override;
  void OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) override;
  void OnPoison(ChannelId channel, uint32_t generation, uint64_t call_id) override;
  void OnDenial(ChannelId channel, const bh_denial& denial) override;
  void OnTakeover(uint32_t incarnation, uint32_t adopted_calls) override;
  void OnShimLost() override;

  void Run();
  uint64_t NextTimer() const;
  void Publish();
  absl::Status ForgivePoison(Driver& driver, uint64_t until_ns);
  // `options`: null: they stay, and so does nothing else.
  absl::StatusOr<uint64_t> TryRelease(const std::string& name, const std::string& folder,
                                      const std::string* options, uint64_t until_ns);
  absl::StatusOr<uint64_t> PutIfChanged(size_t index, const std::string& folder,
                                        const std::string& options, uint64_t until_ns);
  absl::StatusOr<uint64_t> PutInForce(size_t index, const Release& added, uint64_t until_ns);
  Driver* FindChannel(ChannelId channel);
  absl::StatusOr<size_t> IndexOf(const std::string& name) const;

  const Options options_;
  LinkQueue link_queue_;
  DriverSurroundings surroundings_;
  std::vector<std::unique_ptr<Driver>> drivers_;  // not changed after Start
  std::set<uid_t> host_users_;                    // likewise
  StatusBoard board_;
  uint64_t started_ns_ = 0;  // not changed after Start

  // Adds to the status of drivers_[i] what is counted now.
  void AddCounts(size_t i, DriverStatusFields& fields);
  Mutex counts_mutex_;
  std::vector<LetThroughWatch> let_through_ ABSL_GUARDED_BY(counts_mutex_);  // of drivers_
  std::vector<LetThroughWatch> unrecorded_ ABSL_GUARDED_BY(counts_mutex_);   // likewise: denials

  // The loop's.
  Snapshot published_;
  bool unpublished_ = false;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_H_
