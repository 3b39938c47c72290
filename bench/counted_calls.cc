// SPDX-License-Identifier: Apache-2.0
//
// A caller with a peer of its own that makes as many calls as it is told to. Built twice: with the
// checks on a call's path and without them. bench-checks starts both.
#include "bench/counted_calls.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "bench/peer.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

bool Trips(Peer& peer, bool raw, uint32_t round_trips) {
  uint8_t payload[48] = {};
  for (uint32_t i = 0; i < round_trips; ++i) {
    if (raw) {
      peer.Raw(payload);
    } else if (!peer.Call(Mode::kCall, payload)) {
      return false;
    }
  }
  return true;
}

double MeanNs(Peer& peer, const CountedCalls& wanted) {
  const bool raw = wanted.raw != 0;
  peer.Resume();
  peer.Enter(raw ? Mode::kRaw : Mode::kCall, 1, 0);
  // Until everything is where it will be.
  bool good = Trips(peer, raw, wanted.round_trips / 8 + 1);
  const uint64_t started_ns = MonotonicNowNs();
  good = Trips(peer, raw, wanted.round_trips) && good;
  const auto took_ns = static_cast<double>(MonotonicNowNs() - started_ns);
  peer.Halt();
  return good ? took_ns / wanted.round_trips : -1;
}

int Serve() {
  absl::StatusOr<std::unique_ptr<Peer>> peer = Peer::Start();
  if (!peer.ok()) return 1;
  (*peer)->Halt();
  PinTo(0);
  CountedCalls wanted;
  while (read(STDIN_FILENO, &wanted, sizeof(wanted)) == sizeof(wanted)) {
    const double mean_ns = MeanNs(**peer, wanted);
    if (write(STDIN_FILENO, &mean_ns, sizeof(mean_ns)) != sizeof(mean_ns)) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main() { return bulkhead::Serve(); }
