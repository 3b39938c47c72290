// SPDX-License-Identifier: Apache-2.0
//
// Transport: one way in which a process sends another one 48 bytes and gets 48 back. bench-ipc
// measures them side by side; each is used as its own documentation recommends.
//
// Two processes use copies of one object. The client makes it, calls Prepare(), and forks the
// server, so that the server inherits everything that Prepare() made; then StartServer() runs in
// the server, StartClient() in the client. A signal may end either at any moment: files of a
// transport must be removed, or unlinked, by the end of StartClient().
//
// Unavailable means that this machine does not permit the measurement: it is skipped, with the
// message. Any other error is a broken benchmark.
//
// Threads: one in each process calls these functions; a transport may have more of its own.
#ifndef BULKHEAD_BENCH_PEERS_TRANSPORT_H_
#define BULKHEAD_BENCH_PEERS_TRANSPORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bulkhead {

struct Payload {
  uint64_t sequence;
  uint8_t rest[40];
};
static_assert(sizeof(Payload) == 48);

// Every server's work on a call, so that the client can distinguish an answer from an echo.
inline void Answer(Payload& payload) { payload.sequence = ~payload.sequence; }

// How often a spinning server polls before Serve() returns and the server checks whether it is its
// turn.
inline constexpr int kPollsAtOnce = 1000;

class Transport {
 public:
  virtual ~Transport() = default;

  virtual absl::Status Prepare() { return absl::OkStatus(); }
  virtual absl::Status StartServer() { return absl::OkStatus(); }
  virtual absl::Status StartClient() { return absl::OkStatus(); }

  // Answers a call or more. A server that spins returns after kPollsAtOnce polls without one; a
  // server that sleeps may sleep here without end.
  virtual void Serve() = 0;

  // One round trip: sends the payload, and replaces it by the answer. False when it failed.
  virtual bool Call(Payload& payload) = 0;

  // True: it has threads of its own, which the scheduler places. Otherwise each process is pinned
  // to a CPU, the client's to one and the server's to another.
  virtual bool HasThreads() const { return false; }
};

struct TransportKind {
  std::string name;
  std::string title;     // for reports
  std::string packages;  // Debian's, separated by blanks: their versions are part of a report
  bool has_limit;        // whether Bulkhead's call must be kTimesFaster
  // Empty: its package was missing at build time.
  std::function<std::unique_ptr<Transport>()> make;

  // Other than the C library and Bulkhead.
  bool HasLibrary() const { return !packages.empty() && packages != "libc6"; }
};

// The raw floor, Bulkhead's call, then the peers.
std::vector<TransportKind> PeerKinds();

std::unique_ptr<Transport> MakeRaw();
std::unique_ptr<Transport> MakeBulkhead(bool spinning);
std::unique_ptr<Transport> MakePipe();
std::unique_ptr<Transport> MakeSeqpacket();
std::unique_ptr<Transport> MakeEventfd();
std::unique_ptr<Transport> MakeFutex();
std::unique_ptr<Transport> MakeMqueue();

// Null where the library was missing at build time, so that its file was left out.
#define BULKHEAD_MAYBE_BUILT __attribute__((weak))
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeBoostSpinning();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeBoostBlocking();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeIceoryxSpinning();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeIceoryxWaitSet();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeZeroMq();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeGrpc();

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_TRANSPORT_H_
