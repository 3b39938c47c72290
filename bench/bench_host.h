// SPDX-License-Identifier: Apache-2.0
//
// BenchChannel: a channel with a shim of its own, its calls, and its host: a real process, which
// serves one generation through HostPort with a driver that allows everything.
#ifndef BULKHEAD_BENCH_BENCH_HOST_H_
#define BULKHEAD_BENCH_BENCH_HOST_H_

#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/forked_process.h"
#include "ipc/host_port.h"
#include "ipc/life_line_unsafe.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {

// As a service makes them; see host/cli/service.cc.
inline constexpr uint32_t kDefaultSpinNs = 20'000;
inline constexpr uint32_t kDefaultWorkers = 2;
bh_geometry DefaultGeometry();

struct BenchHostOptions {
  int cpu = -1;  // where it runs; -1: wherever
  uint32_t workers = 1;
  uint32_t spin_ns = kDefaultSpinNs;
  int keep_and_tell = -1;    // a pipe: it writes there when it has a call, and never answers it
  size_t touched_bytes = 0;  // of private memory
  pthread_mutex_t* held = nullptr;  // shared and robust: locked as long as it lives
  LifeLine* life_line = nullptr;    // the same
  uint64_t* sleeps = nullptr;       // shared: how often its workers have slept, now and then told
};

class BenchChannel {
 public:
  static absl::StatusOr<std::unique_ptr<BenchChannel>> Create(
      uint32_t spin_ns, const bh_policy& policy = DefaultPolicy());
  // Returns when the host serves. REQUIRES: none does.
  absl::Status StartHost(const BenchHostOptions& options);
  // Kills it, waits for its end, and tells the shim.
  absl::Status EndHost();
  const ForkedProcess* host() const { return host_ ? &*host_ : nullptr; }
  // What remains of EndHost() for a caller that has observed the host's death itself.
  absl::Status EndGeneration();

  // One call with 48 bytes; false: it did not end with the driver's answer. From any thread.
  bool Call();
  // The same; returns as soon as it has ended, in whatever way.
  uint32_t CallOutcome();

 private:
  BenchChannel() = default;
  std::unique_ptr<EmbeddedShim> shim_;
  std::optional<ForkedProcess> host_;
  uint32_t generation_ = 0;  // the last that began
};

// What a host process does from its attachment on. Does not return.
[[noreturn]] void ServeCalls(HostPort& port, const BenchHostOptions& options);
// A call with 48 bytes through the first channel of the shim; its outcome.
uint32_t CallWith48Bytes(EmbeddedShim& shim);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_BENCH_HOST_H_
