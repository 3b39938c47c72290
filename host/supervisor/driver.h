// SPDX-License-Identifier: Apache-2.0
//
// Driver: one driver of a supervisor: its releases, its channel, its lifecycle, and a HostSession
// for each role that has a host. It feeds the lifecycle with what it reads, and carries out what
// the lifecycle decides. What the shim is asked goes through the LinkQueue and comes back as an
// event.
//
// Threads: the supervisor's loop, but for what says otherwise.
#ifndef BULKHEAD_HOST_SUPERVISOR_DRIVER_H_
#define BULKHEAD_HOST_SUPERVISOR_DRIVER_H_

#include <poll.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/store/descriptor_store.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/host_session.h"
#include "host/supervisor/host_user.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/link_queue.h"
#include "host/supervisor/loop_inbox.h"
#include "host/supervisor/release_store.h"
#include "host/supervisor/status_snapshot.h"
#include "ipc/mutex.h"
#include "ipc/shared_memory.h"

namespace bulkhead {

struct DriverConfig {
  Manifest manifest;
  std::string content_folder;  // empty: none
  ChannelSpec channel;         // driver and altitude are taken from the manifest
  std::string options;         // after the manifest's own, with a blank between
};

// What all drivers of a supervisor share.
struct DriverSurroundings {
  Spawner* spawner = nullptr;
  DescriptorStore* store = nullptr;  // for the supervisor after this one; may be null
  LinkQueue* link = nullptr;
  std::shared_ptr<LoopInbox> inbox;
  std::function<uint64_t()> now_ns;
  std::function<uint64_t()> chance;
  std::function<void(const DriverEvent&)> on_event;  // may be empty
  LifecycleLimits limits;
  HeartbeatLimits heartbeat;
  uint32_t sandbox = BH_LAYERS_ALL;
  bh_sandbox_level sandbox_required = BH_SANDBOX_NONE;
};

class Driver {
 public:
  // What a supervisor before this one has left of the driver in the store.
  static absl::StatusOr<std::optional<HostRecord>> Left(const DescriptorStore* store,
                                                        const std::string& name);
  // Before the loop runs. Copies the content and makes the channel, on this thread; or goes on with
  // the channel that was left, and with its host where that serves what is configured. Every other
  // host that was left is ended. Errors are for the operator.
  static absl::StatusOr<std::unique_ptr<Driver>> Create(const DriverSurroundings* surroundings,
                                                        const DriverConfig& config,
                                                        const std::string& folder,
                                                        const HostUser& user, ShimLink* link);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // ---- Any thread
  const std::string& name() const { return config_.manifest.name; }
  LinkQueue::LaneId lane() const { return lane_; }
  ReleaseStore& releases() { return releases_; }
  const RecoveryLog& recoveries() const { return recoveries_; }
  // Held, by the operator's thread, while it puts content in force.
  Mutex& content_mutex() ABSL_LOCK_RETURNED(content_mutex_) { return content_mutex_; }
  // `options`: the operator's; InvalidArgument: too long.
  absl::StatusOr<std::shared_ptr<const Release>> AddRelease(const std::string& content,
                                                            const std::string& options);
  // The manifest's, then the operator's.
  static std::string OptionsOf(const Manifest& manifest, const std::string& options);
  std::string OptionsWith(const std::string& options) const {
    return OptionsOf(config_.manifest, options);
  }
  // The operator's that were put in force last; under content_mutex().
  std::string& options() { return options_; }

  // ---- The loop
  // The first step: a host is wanted, or the one that was left is gone on with.
  void Begin();
  ChannelId channel() const { return channel_; }
  void Step(Event event);
  // The shim says so of the host of the event's generation; another's is ignored.
  void OnHostFault(const Event& fault, const DriverEvent& report);
  // `done` is called by another thread, with the shim's answer.
  void SetPolicy(const bh_policy& policy, std::function<void(absl::Status)> done);
  // An operator lifts all quarantine: the driver's, and that of calls.
  void Lift();
  void OnShimLost();
  void Report(DriverEvent event) const;

  void OnTimers(uint64_t now_ns);
  uint64_t NextTimer() const;
  void AddPollFds(std::vector<pollfd>& fds) const;
  // Takes in what has become readable.
  void Look();
  // No host is left, but for exited ones whose exclusion the shim has not lifted yet.
  bool Stopped() const;
  // After the loop and the link: those, too.
  void ReapAll();
  // Null when nothing has changed since the last one.
  std::shared_ptr<const DriverSnapshot> TakeSnapshot();

 private:
  // A process whose session is over and that was not reaped yet. Its id stays its own until the
  // shim has lifted its exclusion: another process with the same id must not lose its own.
  struct Exiting {
    ChildProcess child;
    bool had_channel = false;
    bool including = false;  // the shim was asked to lift the exclusion
  };

  Driver(const DriverSurroundings* surroundings, DriverConfig config, const std::string& folder,
         HostUser user)
      : around_(*surroundings),
        config_(std::move(config)),
        user_(std::move(user)),
        releases_(folder, user_.id),
        policy_(config_.channel.policy),
        options_(config_.options) {}

  std::unique_ptr<HostSession>& SessionOf(Role role) {
    return sessions_[static_cast<size_t>(role)];
  }
  // Before the loop: of what was left.
  absl::Status GoOn(const HostRecord& left, ShimLink* link);
  absl::Status AdoptHost(const HostRecord& left);
  absl::Status EndLeftHosts(pid_t but, ShimLink* link);
  absl::Status MakeChannel(ShimLink* link);
  absl::Status MakeCheckpoint();
  absl::Status AddFirstRelease(ReleaseId* release);
  LifecycleLimits Limits() const;
  void TakeOverChannel();
  void OnChannelTaken(uint32_t serving, const absl::Status& policy, const absl::Status& state);
  static std::string PackageOf(const Manifest& manifest);
  // Of a record: of what a host with these options was started with.
  std::string PackageWith(const std::string& options) const;
  // Puts what a supervisor after this one needs into the store.
  void Keep();
  std::string KeptHostName(pid_t pid) const { return HostItems(name()) + std::to_string(pid); }
  static std::string HostItems(const std::string& name) { return "host/" + name + "/"; }

  // The session of this generation; null when it is over.
  HostSession* Find(Role role, uint32_t generation);
  void Submit(LinkQueue::Request request);

  void Perform(const ActionItem& action);
  void SpawnHost(const ActionItem& action);
  void OnPrepared(Role role, uint32_t generation, absl::StatusOr<ChannelDescriptors> regions);
  void AttachHost(const ActionItem& action);
  void ServeHost(const ActionItem& action);
  void AskForChannel();
  bool MayBeWrittenTo() const;
  void OnChannel(uint32_t generation, const absl::StatusOr<ChannelDescriptors>& regions);
  void BeginGeneration(const ActionItem& action);
  void OnBeginAnswer(Role role, uint32_t generation, const absl::Status& notifications,
                     const absl::Status& begun, uint64_t at_ns);
  void DrainHost(const ActionItem& action);
  void SendDrain(Role role, uint32_t generation);
  void SubmitState(bool quarantined, bool draining);

  void Read(Role role);
  void Handle(HostSession& session, const HostMessage& message);
  void OnSandboxed(HostSession& session, const SandboxFields& sandbox);
  bool IsLockedIn(HostSession& session);
  void OnReady(HostSession& session, const HostReady& ready);
  void OnStarted(HostSession& session, const HostStarted& started);
  void OnBadMessage(HostSession& session, const std::string& error);
  void ReportLine(const HostSession& session, const HostLogLine& line) const;
  void ReportDropped(const HostSession& session, uint64_t lines) const;
  void ReportErrorLines(HostSession& session, bool all) const;
  void OnEnding(Role role, uint32_t generation);
  void OnExit(Role role, const ChildExit& exit);
  void ReapExiting();
  void Heartbeat(uint64_t now_ns);
  void CheckLink(uint64_t now_ns);

  void Report(DriverEventKind kind, const HostSession* session, std::string text = "") const;
  void ReportLink(const absl::Status& status) const;
  void NoteLateStart(Role role);
  void OnEnded(const ActionItem& action, const absl::StatusOr<bh_in_hand>& in_hand);
  void ReportEnd(const ActionItem& action);

  const DriverSurroundings& around_;
  const DriverConfig config_;
  const HostUser user_;  // its hosts'
  ReleaseStore releases_;
  bh_policy policy_;  // that the shim was given last
  std::string options_;
  RecoveryLog recoveries_;
  Mutex content_mutex_;
  LinkQueue::LaneId lane_ = 0;
  ChannelId channel_ = 0;
  SharedMemory checkpoint_;
  std::unique_ptr<Lifecycle> lifecycle_;
  std::array<std::unique_ptr<HostSession>, kRoleCount> sessions_;
  std::array<ChannelDescriptors, kRoleCount> regions_;  // of the host that starts
  std::array<uint64_t, kRoleCount> timers_ns_ = {};
  std::array<uint64_t, kRoleCount> drain_ns_ = {};  // when Drain is sent without the shim's answer
  uint64_t serve_again_ns_ = 0;  // when it is looked again whether the standby can serve; 0: no
  uint64_t link_check_ns_ = 0;
  bool link_silent_ = false;   // and was reported
  uint32_t begin_failed_ = 0;  // the last generation of which that was reported
  std::vector<Exiting> exiting_;

  // Why the newest host of each role failed.
  struct Failure {
    std::string start;  // what its start said; empty: nothing, or it has served since
    std::string end;
    std::string exit;  // without words of the driver's
    const std::string& Why() const { return start.empty() ? end : start; }
  };
  Failure& FailureOf(Role role) { return failures_[static_cast<size_t>(role)]; }
  std::array<Failure, kRoleCount> failures_;
  pid_t last_pid_ = -1;
  uint64_t death_seen_ns_ = 0;  // of a generation that served, until the next does
  std::string quarantine_reason_;
  SandboxFields sandbox_;                        // of the newest host that said so
  std::vector<std::string> lacks_told_;          // by an event
  bh_callback_set asked_ = bh_set_everything();  // about what, by the newest that started
  ReleaseId in_force_ = 0;
  ReleaseId rolled_back_to_ = 0;
  ReleaseId rolled_back_ = 0;
  std::string rolled_back_reason_;
  bool changed_ = true;   // since the last snapshot
  std::string package_;   // as in HostRecord
  std::string kept_;      // the record that the store has
  uint64_t left_ns_ = 0;  // since when a host that is gone on with had no supervisor; 0: none is
  std::vector<ActionItem> adopted_;  // for Begin()
  uint32_t adopted_generation_ = 0;
  bool took_over_ = false;  // a channel that was left
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_DRIVER_H_
