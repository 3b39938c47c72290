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

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/peers/shared_object.h"
#include "bench/peers/transport.h"

namespace bulkhead {

struct PairPage;

class Pair {
 public:
  static constexpr uint32_t kTripsMax = 2000;

  // Returns when the first call can be made. Unavailable: to be skipped, the message gives the
  // reason.
  static absl::StatusOr<std::unique_ptr<Pair>> Start(const TransportKind& kind);
  ~Pair();

  // Makes up to `trips` calls, but starts none after `budget_ns`, following some calls that are not
  // counted. Returns the nanoseconds of each, including one reading of the clock; valid until the
  // next Run().
  // REQUIRES: 0 < trips <= kTripsMax.
  absl::StatusOr<absl::Span<const uint32_t>> Run(uint32_t trips, uint64_t budget_ns);

  // Calls that failed or had a wrong answer.
  uint64_t wrong() const;
  uint64_t calls() const;

 private:
  Pair() = default;
  absl::Status Await(const uint32_t* word, uint32_t old);

  SharedObject<PairPage> page_;
  pid_t pid_ = -1;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_PAIR_H_
