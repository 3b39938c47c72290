// SPDX-License-Identifier: Apache-2.0
//
// Pair: the client and the server of one transport, as used by the bench, which starts the client,
// which starts the server. A library that aborts or hangs ends its own pair only.
//
// Both die with the bench, and the server with its client, however these end: nothing needs
// cleaning up after a Ctrl-C or a SIGKILL.
//
// Only one pair is awake at a time: a spinning server sleeps while it is not its turn.
//
// Not thread-safe: one thread of the bench.
#ifndef BULKHEAD_BENCH_PEERS_PAIR_H_
#define BULKHEAD_BENCH_PEERS_PAIR_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/forked_process.h"
#include "bench/peers/shared_object.h"
#include "bench/peers/transport.h"
#include "ipc/monotonic.h"

namespace bulkhead {

struct PairPage;

class Pair {
 public:
  static constexpr uint32_t kTripsMax = 2000;
  static constexpr uint64_t kBoundNs = 30 * kNanosecondsPerSecond;

  // Returns when the first call can be made. Unavailable: to be skipped, the message gives the
  // reason. DeadlineExceeded, here and in Run(): no answer within the bound; the pair has been
  // ended.
  static absl::StatusOr<std::unique_ptr<Pair>> Start(const TransportKind& kind);
  ~Pair();

  // Makes up to `trips` calls, but starts none after `budget_ns`, following some calls that are not
  // counted. Returns the nanoseconds of each, including one reading of the clock; valid until the
  // next Run().
  // REQUIRES: 0 < trips <= kTripsMax.
  absl::StatusOr<absl::Span<const uint32_t>> Run(uint32_t trips, uint64_t budget_ns,
                                                 uint64_t bound_ns = kBoundNs);

  // Calls that failed or had a wrong answer.
  uint64_t wrong() const;
  uint64_t calls() const;

 private:
  Pair() = default;
  absl::Status Await(const char* what, const uint32_t* word, uint32_t old, uint64_t bound_ns);

  SharedObject<PairPage> page_;
  std::optional<ForkedProcess> client_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_PAIR_H_
