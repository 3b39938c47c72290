// SPDX-License-Identifier: Apache-2.0
//
// HostPort: a host's end of a channel. Its workers take calls from it and reply to them.
//
//   attach     takes both regions as the transport has mapped and checked them, once; keeps the
//              geometry private
//   take       a worker finds a call, claims it against the other workers, copies it once
//   details    the second line of a call: deadline, id, payload. Read only when asked for
//   reply      fills the reply line, stores the ticket, wakes the caller if it sleeps
//
// Threads: Take is called by one thread at a time for each worker; different workers run in
// parallel. What was taken belongs to no worker: any thread may go on with it (BeginDriver,
// Details, ReceiveDescriptor, Reply), one at a time for each call, and reply in any order, at any
// time, while its worker takes the next one. StopTaking and the counters may be called from any
// thread. Nothing here is held while a driver runs: a worker thread that never comes back from its
// driver leaves its calls unanswered and disturbs no other.
//
// Cost of a small call while both sides are awake: one line of the shim's read (arguments with
// their ticket), one line written (reply with its ticket), no allocation, no system call.
//
// Trust: the host believes the shim (it is the kernel's side), but copies each call once, so that
// it does not change between check and use, and keeps every offset inside its own mapping.
#ifndef BULKHEAD_IPC_HOST_PORT_H_
#define BULKHEAD_IPC_HOST_PORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/abi/channel.h"
#include "ipc/host_transport.h"
#include "ipc/monotonic.h"
#include "ipc/notification_reader.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// A private copy of a call's arguments. Plain bytes: it may be dropped without a reply only when
// the process is about to end.
struct TakenCall {
  // Not defaulted: that would set `args` to zero for each call.
  TakenCall() {}  // NOLINT(modernize-use-equals-default)

  uint64_t ticket = BH_TICKET_NONE;
  uint32_t slot = 0;
  uint16_t callback = 0;    // enum bh_callback; may be one that this host does not know: decline it
  uint16_t args_bytes = 0;  // at most BH_ARGS_BYTES_MAX
  uint16_t flags = 0;       // enum bh_call_flags
  bool descriptor_waits = false;  // has a file that was not received yet
  // From args_bytes to the end of the first line (BH_INLINE_BYTES) they are zero; those of the
  // second line have a value only when args_bytes reaches there, and are zero from there on.
  alignas(8) uint8_t args[BH_ARGS_BYTES_MAX];
};

// A private copy of a call's second line. The views stay valid until the reply.
struct CallDetails {
  uint64_t call_id = 0;
  uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC
  uint32_t attempt = 0;
  absl::Span<const std::byte> payload;  // in the call region: written before the call, read-only
  absl::Span<std::byte> reply_room;     // in the reply region: where an answer beyond the line goes
  std::string_view payload_text() const {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

struct HostPortOptions {
  uint32_t generation = 0;    // 1 and up
  uint32_t workers = 1;       // 1 .. BH_WORKERS_MAX
  uint32_t spin_ns = 20'000;  // ceiling of the adaptive spin before a worker sleeps; 0 never spins
};

class HostPort {
 public:
  struct Counters {
    uint64_t calls = 0;              // replied to
    uint64_t sleeps = 0;             // times a worker slept
    uint64_t bells = 0;              // times a caller had to be woken
    uint64_t malformed = 0;          // calls declined because they don't fit the channel
    uint64_t stray_descriptors = 0;  // descriptor notes that fit no call of this generation
  };

  // A channel that its transport has mapped. InvalidArgument says which option is wrong.
  static absl::StatusOr<std::unique_ptr<HostPort>> Attach(MappedChannel channel,
                                                          const HostPortOptions& options);
  // A channel of a shim in user mode (MapSealedChannel). `descriptor_socket` may be empty when no
  // callback carries a file.
  static absl::StatusOr<std::unique_ptr<HostPort>> Attach(UniqueFd call_region,
                                                          UniqueFd reply_region,
                                                          UniqueFd descriptor_socket,
                                                          const HostPortOptions& options);
  ~HostPort();
  HostPort(const HostPort&) = delete;
  HostPort& operator=(const HostPort&) = delete;

  // Binds the calling thread to the CPU whose calls this worker looks at first, and says so to the
  // shim, so that a caller there can leave its CPU to it while it waits. Not true, and nothing
  // done, when there are fewer workers than CPUs, or the CPU is not to be had. Before the first
  // Take.
  bool Bind(uint32_t worker);

  // The next call for this worker, or none when until_ns has passed or StopTaking was called.
  // Spins, then sleeps. Every call taken is replied to, once, by any thread; how many are taken and
  // not replied to is bounded by the slots.
  std::optional<TakenCall> Take(uint32_t worker, uint64_t until_ns);

  // To be called right before the driver sees the call: from here on the call counts as begun.
  void BeginDriver(const TakenCall& call);

  // InvalidArgument when an offset lies outside the channel: decline the call.
  absl::StatusOr<CallDetails> Details(const TakenCall& call) const;

  // The file of a call with BH_CALL_HAS_DESCRIPTOR; once per call. It was sent before the call, so
  // this never waits. NotFound when it is not there, FailedPrecondition when the call has none.
  absl::StatusOr<UniqueFd> ReceiveDescriptor(TakenCall& call);

  // Ends the call: `status` is enum bh_reply_status, `reply` at most BH_INLINE_BYTES,
  // `reply_payload_bytes` how much of reply_room was filled. Drops a file that was not received.
  void Reply(TakenCall& call, uint32_t status, absl::Span<const uint8_t> reply,
             uint64_t reply_payload_bytes = 0);
  void Decline(TakenCall& call) { Reply(call, BH_REPLY_DECLINED, {}); }

  // The channel's notification ring, whose region came with the others'. Once; the port outlives
  // what it returns.
  absl::StatusOr<std::unique_ptr<NotificationReader>> OpenNotifications(UniqueFd region);

  // Makes every Take return none, now and from here on. For an orderly stop; calls in hand are
  // still to be replied to.
  void StopTaking();

  const bh_geometry& geometry() const;
  Counters counters() const;

 private:
  struct State;
  explicit HostPort(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_HOST_PORT_H_
