// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/pair.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "bench/bounded_wait.h"
#include "bench/peer.h"
#include "ipc/abi/atomics.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"

namespace bulkhead {

struct PairPage {
  enum State : uint32_t { kStarting, kReady, kFailed };

  alignas(64) uint32_t server_turn;   // client to server: 1 while it should serve; a futex
  alignas(64) uint32_t server_state;  // server to client; a futex
  alignas(64) uint32_t client_state;  // client to bench; a futex
  alignas(64) uint32_t units_wanted;  // bench to client; a futex
  uint32_t trips;                     // of the requested unit
  uint64_t budget_ns;                 // of the requested unit
  alignas(64) uint32_t units_done;    // client to bench; a futex
  uint32_t sample_count;              // of the finished unit
  uint64_t calls, wrong;              // of all units
  int32_t error_code;                 // of the process that failed first: absl::StatusCode
  char error[256];
  uint32_t samples_ns[Pair::kTripsMax];
};

namespace {

// A wait is divided into slices: a stop of the process uses up only one of them.
constexpr uint64_t kSliceNs = 100 * kNanosecondsPerMillisecond;

void Post(uint32_t* word, uint32_t value) {
  bh_store_release(word, value);
  FutexWake(word, FutexScope::kShared, kFutexWakeAll);
}

void Fail(PairPage& page, uint32_t* state, const absl::Status& status) {
  page.error_code = static_cast<int32_t>(status.code());
  (void)std::snprintf(page.error, sizeof(page.error), "%s", std::string(status.message()).c_str());
  Post(state, PairPage::kFailed);
}

// From here on PDEATHSIG kills this process when its parent dies. If the parent has died already,
// the signal would never come, so this checks it.
void DieWith(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
}

void EndWithServer(int) { _exit(1); }

[[noreturn]] void RunServer(Transport& transport, PairPage& page) {
  signal(SIGCHLD, SIG_DFL);
  if (!transport.HasThreads()) PinTo(1);
  if (absl::Status status = transport.StartServer(); !status.ok()) {
    Fail(page, &page.server_state, status);
    for (;;) pause();  // until the client has reported the cause to the bench, and ended
  }
  Post(&page.server_state, PairPage::kReady);
  for (;;) {
    while (bh_load_acquire(&page.server_turn) == 0) {
      FutexWait(&page.server_turn, 0, FutexScope::kShared, kForeverNs);
    }
    transport.Serve();
  }
}

absl::Status StartBoth(Transport& transport, PairPage& page) {
  if (absl::Status status = transport.Prepare(); !status.ok()) return status;
  const pid_t client = getpid();
  const pid_t server = fork();
  if (server < 0) return absl::ErrnoToStatus(errno, "fork");
  if (server == 0) {
    DieWith(client);
    RunServer(transport, page);
  }
  while (bh_load_acquire(&page.server_state) == PairPage::kStarting) {
    FutexWait(&page.server_state, PairPage::kStarting, FutexScope::kShared, kForeverNs);
  }
  if (bh_load_acquire(&page.server_state) == PairPage::kFailed) {
    return absl::Status(static_cast<absl::StatusCode>(page.error_code), page.error);
  }
  return transport.StartClient();
}

void RunUnit(Transport& transport, PairPage& page) {
  Payload payload = {};
  uint64_t sequence = page.calls;
  const auto trip = [&] {
    payload.sequence = ++sequence;
    if (!transport.Call(payload) || payload.sequence != ~sequence) ++page.wrong;
  };
  Post(&page.server_turn, 1);
  const uint64_t warm_ns = MonotonicAfterNs(page.budget_ns / 4);
  for (uint32_t i = 0; i < page.trips / 8 + 1; ++i) {
    trip();
    if (MonotonicNowNs() >= warm_ns) break;
  }
  uint32_t count = 0;
  uint64_t before_ns = MonotonicNowNs();
  const uint64_t until_ns = SaturatingAddNs(before_ns, page.budget_ns);
  while (count < page.trips && before_ns < until_ns) {
    trip();
    const uint64_t after_ns = MonotonicNowNs();
    page.samples_ns[count++] =
        static_cast<uint32_t>(std::min<uint64_t>(after_ns - before_ns, UINT32_MAX));
    before_ns = after_ns;
  }
  Post(&page.server_turn, 0);
  page.sample_count = count;
  page.calls = sequence;
}

[[noreturn]] void RunClient(const TransportKind& kind, PairPage& page) {
  std::unique_ptr<Transport> transport = kind.make();
  struct sigaction action = {};
  action.sa_handler = EndWithServer;
  action.sa_flags = SA_NOCLDSTOP;  // a stopped child continues later
  sigaction(SIGCHLD, &action, nullptr);
  if (!transport->HasThreads()) PinTo(0);
  if (absl::Status status = StartBoth(*transport, page); !status.ok()) {
    Fail(page, &page.client_state, status);
    for (;;) pause();
  }
  Post(&page.client_state, PairPage::kReady);
  for (uint32_t done = 0;; ++done) {
    while (bh_load_acquire(&page.units_wanted) == done) {
      FutexWait(&page.units_wanted, done, FutexScope::kShared, kForeverNs);
    }
    RunUnit(*transport, page);
    Post(&page.units_done, done + 1);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Pair>> Pair::Start(const TransportKind& kind) {
  std::unique_ptr<Pair> pair(new Pair);
  if (absl::Status status = pair->page_.Map(); !status.ok()) return status;
  PairPage& page = *pair->page_;
  absl::StatusOr<ForkedProcess> client = ForkedProcess::Start([&] { RunClient(kind, page); });
  if (!client.ok()) return client.status();
  pair->client_.emplace(*std::move(client));
  if (absl::Status status =
          pair->Await("the start of its client", &page.client_state, PairPage::kStarting, kBoundNs);
      !status.ok()) {
    return status;
  }
  if (bh_load_acquire(&page.client_state) == PairPage::kFailed) {
    return absl::Status(static_cast<absl::StatusCode>(page.error_code), page.error);
  }
  return pair;
}

Pair::~Pair() = default;

absl::Status Pair::Await(const char* what, const uint32_t* word, uint32_t old, uint64_t bound_ns) {
  for (uint64_t slice = 0; slice * kSliceNs < bound_ns; ++slice) {
    if (bh_load_acquire(word) != old) return absl::OkStatus();
    if (const std::optional<int> end = client_->TakeEnd()) {
      client_.reset();
      return absl::AbortedError(WIFSIGNALED(*end)
                                    ? absl::StrCat("it ended by signal ", WTERMSIG(*end))
                                    : "its server or the daemon ended");
    }
    FutexWait(word, old, FutexScope::kShared, MonotonicAfterNs(kSliceNs));
  }
  client_.reset();
  return DidNotCome(what, bound_ns);
}

absl::StatusOr<absl::Span<const uint32_t>> Pair::Run(uint32_t trips, uint64_t budget_ns,
                                                     uint64_t bound_ns) {
  if (!client_) return absl::AbortedError("it ended before");
  PairPage& page = *page_;
  page.trips = trips;
  page.budget_ns = budget_ns;
  const uint32_t done = bh_load_relaxed(&page.units_done);
  Post(&page.units_wanted, done + 1);
  if (absl::Status status = Await("the end of a unit", &page.units_done, done, bound_ns);
      !status.ok()) {
    return status;
  }
  return absl::MakeConstSpan(page.samples_ns, page.sample_count);
}

uint64_t Pair::wrong() const { return page_->wrong; }
uint64_t Pair::calls() const { return page_->calls; }

}  // namespace bulkhead
