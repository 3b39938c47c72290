// SPDX-License-Identifier: Apache-2.0
//
// Harness: a driver in the process of its test, between the host's own dispatcher and an embedded
// shim. What <bulkhead/testing.h> promises, as C++; harness_abi.cc is its C face.
//
// The test's thread plays the kernel (it makes the calls) and the supervisor (it begins and ends
// generations); the workers are the dispatcher's. There is no process to kill: a driver that hangs
// or breaks the protocol is reported, and stays.
//
// Threads: one at a time; OnViolation comes from the shim's.
#ifndef BULKHEAD_HOST_HARNESS_HARNESS_H_
#define BULKHEAD_HOST_HARNESS_HARNESS_H_

#include <bulkhead/testing.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/process/checkpoint.h"
#include "host/process/driver_library.h"
#include "host/process/log_queue.h"
#include "host/supervisor/manifest.h"
#include "ipc/control/host_protocol.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {

struct HarnessSetup {
  std::string folder;
  std::string library;
  std::string content;
  std::string options;
  uint32_t workers = 0;
  uint64_t deadline_ns = 0;
  uint32_t pending_calls_max = 0;
  uint32_t checkpoint_bytes = 0;
  // Memory for the log, of LogRing::kBytes, that outlives the process; empty: private memory.
  std::span<std::byte> log_memory;
};

class Harness final : public ShimLink::Observer {
 public:
  static absl::StatusOr<std::unique_ptr<Harness>> Load(const HarnessSetup& setup);
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;
  // As bulkhead_test_free().
  ~Harness() override;

  absl::Status Start(bh_start reason);
  // Whether the library was unloaded.
  absl::StatusOr<bool> Stop();

  // A name for a call that has begun.
  absl::StatusOr<uint64_t> Begin(const bulkhead_test_call& call);
  // False: it has not ended until then. NotFound.
  absl::StatusOr<bool> Wait(uint64_t id, uint64_t until_ns, bulkhead_test_result* result);

  absl::Status Notify(const bulkhead_notification& notification);
  absl::Status Settle(uint64_t until_ns);

  // What the driver has logged by now. Lines stay where they are until ClearLog().
  const std::deque<LogQueue::Line>& Log();
  void ClearLog();
  uint64_t LogDropped() const { return log_->dropped(); }

  // ShimLink::Observer.
  void OnHung(ChannelId, uint32_t, uint64_t, uint32_t) override {}
  void OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) override;
  void OnPoison(ChannelId, uint32_t, uint64_t) override {}
  void OnTakeover(uint32_t, uint32_t) override {}
  void OnShimLost() override {}

 private:
  struct Telling;
  class WatchedDispatcher;
  // A generation: all that a host has, and that goes with it.
  struct Life;
  struct Call {
    std::unique_ptr<EmbeddedShim::PendingCall> pending;
    UniqueFd file;
    uint64_t began_ns = 0;
    std::optional<bulkhead_test_result> ended;
  };

  explicit Harness(const HarnessSetup& setup);
  absl::Status LoadLibrary();
  absl::Status OpenChannel();
  absl::Status Serve(const AttachFields& attach);
  void KeepTakingLog();
  void TakeLog();
  void Advance();
  bulkhead_test_result ResultOf(const Completion& completion, uint64_t began_ns) const;

  const HarnessSetup setup_;
  Manifest manifest_;
  std::string content_;
  std::string options_;
  uint32_t workers_ = 1;
  std::shared_ptr<LogQueue> log_;
  std::mutex lines_mutex_;  // a thread takes the log, too, so that a flood finds room
  std::vector<LogQueue::Line> new_lines_;
  std::deque<LogQueue::Line> lines_;  // the test's thread's
  std::atomic<bool> ends_{false};
  std::thread log_taker_;
  std::shared_ptr<std::vector<std::byte>> checkpoint_memory_;
  std::shared_ptr<Checkpoint> checkpoint_;
  std::shared_ptr<Telling> telling_;
  std::shared_ptr<DriverLibrary> library_;  // null while it is unloaded
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  bh_geometry geometry_ = {};
  uint32_t generation_ = 0;
  std::shared_ptr<Life> life_;  // null while the driver does not run
  std::atomic<uint32_t> violation_{0};
  uint64_t next_call_ = 1;
  std::map<uint64_t, Call> calls_;
};

const char* TestOutcomeName(uint32_t outcome);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_HARNESS_HARNESS_H_
