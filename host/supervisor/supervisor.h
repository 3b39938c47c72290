// SPDX-License-Identifier: Apache-2.0
//
// Supervisor: starts the hosts of its drivers, watches them, starts them again when they fall, puts
// content in force and takes it back, and tells the shim what serves. What it decides is
// Lifecycle's; this carries it out.
//
//   Supervisor supervisor(options);                 // link, spawner, clock and chance come in
//   supervisor.AddDriver(config);                   // each driver, before Start
//   supervisor.Start();                             // a thread of its own from here on
//   supervisor.WaitUntilServing("scanner", until);
//   ...
//   supervisor.Stop();                              // drains, then kills; bounded
//
// Threads: every function from any thread; AddDriver before Start. All processes are started by the
// supervisor's own thread, and are killed by the kernel when that ends.
#ifndef BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_H_
#define BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/manifest.h"
#include "host/supervisor/spawner.h"
#include "ipc/control.h"
#include "ipc/shim_link.h"

namespace bulkhead {

// One restart, by CLOCK_MONOTONIC.
struct RecoverySample {
  uint64_t death_seen_ns = 0;
  uint64_t serving_ns = 0;
};

struct DriverConfig {
  Manifest manifest;
  std::string content_folder;  // empty: none
  ChannelSpec channel;         // driver and altitude are taken from the manifest
  std::string options;         // after the manifest's own, with a blank between
};

class Supervisor final : private ShimLink::Observer {
 public:
  struct Options {
    ShimLink* link = nullptr;    // not owned; outlives this
    Spawner* spawner = nullptr;  // not owned; outlives this
    std::string run_folder;      // private, exists; content copies are kept below it
    std::string attachment;      // for the status
    LifecycleLimits limits;
    uint64_t heartbeat_every_ns = 1'000'000'000;  // who rests is not asked: rest_watch.h
    uint64_t heartbeat_missed_ns = 5'000'000'000;
    uint32_t sandbox = UINT32_MAX;  // layers, see host/process/sandbox.h
    std::function<uint64_t()> now_ns;
    std::function<uint64_t()> chance;
    // Called from the supervisor's thread; must not wait and must not call back. May be empty.
    std::function<void(const DriverEvent&)> on_event;
  };

  explicit Supervisor(Options options);
  ~Supervisor() override;  // Stop()s

  // Copies the content, makes the channel. Errors are for the operator.
  absl::Status AddDriver(const DriverConfig& config);
  absl::Status Start();
  // Drains every host, kills what does not leave in time, and ends the thread.
  void Stop();

  // FailedPrecondition with the reason when the driver is quarantined; DeadlineExceeded.
  absl::Status WaitUntilServing(const std::string& driver, uint64_t until_ns);
  // Copies the folder and puts it in force. The version when it serves; FailedPrecondition with the
  // reason when it was rolled back; Aborted when another thread is at it for this driver; Cancelled
  // when the supervisor stops meanwhile.
  absl::StatusOr<uint64_t> SetContent(const std::string& driver, const std::string& folder,
                                      uint64_t until_ns);
  // Lifts a quarantine.
  absl::Status Release(const std::string& driver);

  StatusFields Status();
  // Process id of the driver's host; -1 when there is none. For tests and storms that kill it.
  pid_t HostPid(const std::string& driver);
  std::vector<RecoverySample> Recoveries(const std::string& driver);

 private:
  struct Driver;

  // ShimLink::Observer
  void OnOverdue(ChannelId channel, uint32_t generation, uint64_t call_id) override;
  void OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) override;
  void OnPoison(ChannelId channel, uint32_t generation, uint64_t call_id) override;
  void OnTakeover(uint32_t incarnation, uint32_t adopted_calls) override;
  void OnShimLost() override;

  void Post(std::function<void()> command);  // to the thread, with mutex_ held there
  void Run();
  void RunCommands();
  uint64_t NextTimer() const;
  void Look(Driver& driver);
  void ReadControl(Driver& driver);
  void ReadErrorOutput(Driver& driver);
  void OnStarted(Driver& driver, const wire::Started& started);
  void OnEnding(Driver& driver, uint32_t generation);
  void OnDeath(Driver& driver);
  void Bury(Driver& driver, const ChildExit& exit);
  void ReapLeaving();
  void Heartbeat(Driver& driver, uint64_t now_ns);
  void Step(Driver& driver, Event event);
  void Perform(Driver& driver, const ActionItem& action);
  void ReportEnd(const Driver& driver, const ActionItem& action);
  void SpawnHost(Driver& driver, const ActionItem& action);
  absl::Status AttachHost(Driver& driver, const ActionItem& action);
  // About the present generation, unless the event names another.
  void Report(const Driver& driver, DriverEvent event);
  void Report(const Driver& driver, DriverEventKind kind, std::string text = "");
  Driver* Find(const std::string& name);
  Driver* FindChannel(ChannelId channel);
  absl::StatusOr<Driver*> Named(const std::string& name);

  const Options options_;
  std::vector<std::unique_ptr<Driver>> drivers_;  // not changed after Start

  std::mutex mutex_;  // all that drivers_ points to
  std::condition_variable changed_;
  bool stopping_ = false;
  struct Leaving {
    ChildProcess child;
    const Driver* of;
  };
  std::vector<Leaving> leaving_;  // known to be dead, and not reaped yet
  uint32_t shim_incarnation_ = 0;
  uint64_t started_ns_ = 0;

  std::mutex commands_mutex_;
  std::deque<std::function<void()>> commands_;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_H_
