// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor's loop publishes for every caller that asks: values that never change once they
// are published. A reader holds StatusBoard's mutex for the copy of a pointer only, and so does the
// loop: neither makes the other wait.
#ifndef BULKHEAD_HOST_SUPERVISOR_STATUS_SNAPSHOT_H_
#define BULKHEAD_HOST_SUPERVISOR_STATUS_SNAPSHOT_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/supervisor/lifecycle.h"
#include "host/supervisor/release.h"
#include "ipc/control/host_protocol.h"
#include "ipc/mutex.h"

namespace bulkhead {

struct DriverSnapshot {
  std::string name;
  std::string version;
  State state = State::kStopped;
  uint32_t generation = 0;
  pid_t pid = -1;  // -1: no host
  uint32_t altitude = 0;
  std::shared_ptr<const Release> running;
  ReleaseId good = 0;
  uint64_t good_content = 0;
  uint64_t loading_content = 0;  // its host starts beside the one that serves
  uint64_t restarts = 0;
  uint64_t start_failures = 0;
  std::string last_end;            // with the last line that it wrote
  std::string last_exit;           // without
  bh_callback_set callbacks = {};  // that its hosts are asked about; before the first starts: all
  bh_mode mode = BH_MODE_ENFORCE;
  bool allows_absent = true;  // the policy allows some calls while no host serves
  uint64_t next_start_ns = 0;
  std::string quarantine_reason;
  SandboxFields sandbox;  // of the newest host
  ReleaseId in_force = 0;
  ReleaseId rolled_back_to = 0;  // what is wanted since `rolled_back` is not
  ReleaseId rolled_back = 0;
  std::string rolled_back_reason;
};

struct Snapshot {
  std::vector<std::shared_ptr<const DriverSnapshot>> drivers;  // in the order of AddDriver
  uint32_t shim_incarnation = 0;
  bool stopping = false;
};

class StatusBoard {
 public:
  void Publish(std::shared_ptr<const Snapshot> snapshot) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const MutexLock lock(mutex_);
      newest_.swap(snapshot);
    }
    changed_.NotifyAll();
  }
  std::shared_ptr<const Snapshot> Get() const ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    return newest_;
  }
  // Waits until there is another one than `seen`. Null when until_ns has passed.
  std::shared_ptr<const Snapshot> WaitForNewer(const std::shared_ptr<const Snapshot>& seen,
                                               uint64_t until_ns) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    while (newest_ == seen) {
      if (!changed_.WaitUntil(mutex_, until_ns)) return nullptr;
    }
    return newest_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<const Snapshot> newest_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<const Snapshot>();
};

// One restart, by CLOCK_MONOTONIC.
struct RecoverySample {
  uint64_t death_seen_ns = 0;
  uint64_t serving_ns = 0;
};

// RecoveryLog: samples that only become more, without a lock: one writer, the loop; any readers.
// SUBTLE: the writer's relaxed load reads what the writer itself stored.
class RecoveryLog {
 public:
  // Dropped when the log is full.
  void Add(const RecoverySample& sample) {
    const size_t size = size_.load(std::memory_order_relaxed);
    if (size == kChunks * kChunkSamples) return;
    std::unique_ptr<Chunk>& chunk = chunks_[size / kChunkSamples];
    if (chunk == nullptr) chunk = std::make_unique<Chunk>();
    (*chunk)[size % kChunkSamples] = sample;
    size_.store(size + 1, std::memory_order_release);  // what it counts is whole
  }
  std::vector<RecoverySample> All() const {
    std::vector<RecoverySample> all(size_.load(std::memory_order_acquire));
    for (size_t i = 0; i < all.size(); ++i) {
      all[i] = (*chunks_[i / kChunkSamples])[i % kChunkSamples];
    }
    return all;
  }

 private:
  static constexpr size_t kChunks = 100, kChunkSamples = 1000;
  using Chunk = std::array<RecoverySample, kChunkSamples>;
  std::array<std::unique_ptr<Chunk>, kChunks> chunks_;
  std::atomic<size_t> size_{0};
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_STATUS_SNAPSHOT_H_
