// SPDX-License-Identifier: Apache-2.0
//
// Transport: one way in which a process asks another one with 48 bytes and gets 48 back. bench-ipc
// measures them beside each other; each is used as its own documentation recommends.
//
// Two processes share the life of one object. The client makes it, calls Prepare(), and forks the
// server, so that the server inherits what Prepare() made; then StartServer() runs in the server,
// StartClient() in the client. Both end by a signal at any moment: what a transport leaves in the
// file system has to be gone, or unlinked, by the end of StartClient().
//
// Unavailable means that this machine does not let us measure it: it is skipped, with the message.
// Any other error is a broken benchmark.
//
// Threads: one in each process calls these functions; a transport may have more of its own.
#ifndef BULKHEAD_BENCH_PEERS_TRANSPORT_H_
#define BULKHEAD_BENCH_PEERS_TRANSPORT_H_

#include <cstddef>
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

// What every server does with a call, so that the client can tell an answer from an echo.
inline void Answer(Payload& payload) { payload.sequence = ~payload.sequence; }

// How often a spinning server polls before Serve() returns and it sees whether it is its turn.
inline constexpr int kPollsAtOnce = 1000;

class Transport {
 public:
  virtual ~Transport() = default;

  virtual absl::Status Prepare() { return absl::OkStatus(); }
  virtual absl::Status StartServer() { return absl::OkStatus(); }
  virtual absl::Status StartClient() { return absl::OkStatus(); }

  // Answers a call or more. A server that spins returns after kPollsAtOnce without one; a server
  // that sleeps may sleep in here for ever.
  virtual void Serve() = 0;

  // One round trip: the payload goes, and the answer replaces it. False when it failed.
  virtual bool Call(Payload& payload) = 0;

  // True: it has threads of its own, which the scheduler places. Otherwise each process is pinned
  // to a CPU, the client's to the one and the server's to the other.
  virtual bool HasThreads() const { return false; }
};

struct TransportKind {
  std::string name;
  std::string title;     // for people
  std::string packages;  // Debian's, separated by blanks: their versions are part of a report
  bool has_limit;        // our call has to be faster by so much
  // Empty: its package was not there at build time.
  std::function<std::unique_ptr<Transport>()> make;

  // Beside the C library's and our own.
  bool HasLibrary() const { return !packages.empty() && packages != "libc6"; }
};

// The raw floor, our call, then the peers.
std::vector<TransportKind> PeerKinds();

// The raw floor and our call as above, then both with payloads of these sizes: the client copies
// them from private memory into what it shares, and the server adds up their words. Names: raw_64,
// bulkhead_64 …
inline constexpr size_t kPayloadSizes[] = {64, 256, 1024, 4096, 16384, 65536, 262144, 1048576};
inline constexpr size_t kPayloadBytesMax = 1048576;
std::vector<TransportKind> SizeKinds();

std::unique_ptr<Transport> MakeRaw(size_t payload_bytes);
std::unique_ptr<Transport> MakeBulkhead(bool spinning, size_t payload_bytes);
std::unique_ptr<Transport> MakePipe();
std::unique_ptr<Transport> MakeSeqpacket();
std::unique_ptr<Transport> MakeEventfd();
std::unique_ptr<Transport> MakeFutex();
std::unique_ptr<Transport> MakeMqueue();

// Null where the library was not there at build time, so that the file with it was left out.
#define BULKHEAD_MAYBE_BUILT __attribute__((weak))
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeBoostSpinning();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeBoostBlocking();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeIceoryxSpinning();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeIceoryxWaitSet();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeZeroMq();
BULKHEAD_MAYBE_BUILT std::unique_ptr<Transport> MakeGrpc();

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_TRANSPORT_H_
