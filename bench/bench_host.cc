// SPDX-License-Identifier: Apache-2.0
#include "bench/bench_host.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "bench/bounded_wait.h"
#include "bench/peer.h"
#include "bench/prepare_call.h"
#include "ipc/abi/atomics.h"
#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kToldEvery = 64;  // calls

// Private memory that stays until the process ends.
bool Touch(size_t bytes) {
  if (bytes == 0) return true;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory != MAP_FAILED;
}

void Work(HostPort& port, uint32_t worker, const BenchHostOptions& options) {
  (void)port.Bind(worker);  // as bulkhead-host does
  const bh_verdict_reply reply = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
  for (uint64_t calls = 1; std::optional<TakenCall> call = port.Take(worker, kForeverNs); ++calls) {
    port.BeginDriver(*call);
    if (options.keep_and_tell >= 0) {
      (void)!write(options.keep_and_tell, "", 1);
      for (;;) bh_cpu_relax();
    }
    port.Reply(*call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
    if (options.sleeps != nullptr && calls % kToldEvery == 0) {
      bh_store_relaxed(options.sleeps, port.counters().sleeps);
    }
  }
}

}  // namespace

bh_geometry DefaultGeometry() {
  const uint32_t lanes = std::clamp(std::thread::hardware_concurrency(), 1u, BH_LANES_MAX);
  return {.lanes = lanes, .slots_per_lane = 32, .call_chunks = 32 * lanes, .reply_chunks = 0};
}

void ServeCalls(HostPort& port, const BenchHostOptions& options) {
  std::vector<std::thread> others;
  for (uint32_t worker = 1; worker < options.workers; ++worker) {
    others.emplace_back([&port, worker, &options] { Work(port, worker, options); });
  }
  Work(port, 0, options);
  _exit(0);
}

uint32_t CallWith48Bytes(EmbeddedShim& shim) {
  bh_call call;
  PrepareCall(call, MonotonicCoarseNs());
  std::memset(call.args, 0, BH_INLINE_BYTES);
  shim.Call(&call);
  return call.outcome;
}

absl::StatusOr<std::unique_ptr<BenchChannel>> BenchChannel::Create(uint32_t spin_ns,
                                                                   const bh_policy& policy) {
  std::unique_ptr<BenchChannel> channel(new BenchChannel);
  absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
  if (!shim.ok()) return shim.status();
  channel->shim_ = *std::move(shim);
  ChannelSpec spec;
  spec.driver = "bench";
  spec.geometry = DefaultGeometry();
  spec.policy = policy;
  spec.spin_ns = spin_ns;
  spec.cache_entries = 0;
  absl::StatusOr<ChannelId> id = channel->shim_->AddChannel(spec);
  if (!id.ok()) return id.status();
  return channel;
}

absl::Status BenchChannel::StartHost(const BenchHostOptions& options) {
  absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(0);
  if (!regions.ok()) return regions.status();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  UniqueFd there(ends[0]), here(ends[1]);
  ++generation_;
  absl::StatusOr<ForkedProcess> host = ForkedProcess::Start([&] {
    if (options.cpu >= 0)
      PinTo(options.cpu);
    else
      PinToNone();
    if (!Touch(options.touched_bytes)) _exit(2);
    if (options.held != nullptr) pthread_mutex_lock(options.held);
    if (options.life_line != nullptr && !options.life_line->Hold(0).ok()) _exit(2);
    auto port = HostPort::Attach(
        std::move(regions->call_region), std::move(regions->reply_region), UniqueFd(),
        {.generation = generation_, .workers = options.workers, .spin_ns = options.spin_ns});
    if (!port.ok()) _exit(2);
    (void)!write(here.get(), "", 1);
    ServeCalls(**port, options);
  });
  if (!host.ok()) return host.status();
  host_.emplace(*std::move(host));
  here.reset();
  if (absl::Status ready = AwaitByte("the start of a host", there.get()); !ready.ok()) return ready;
  return shim_->BeginGeneration(
      0, GenerationSpec(generation_, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1), UniqueFd());
}

absl::Status BenchChannel::EndGeneration() {
  return shim_->EndGeneration(0, generation_, BH_END_KILLED).status();
}

absl::Status BenchChannel::EndHost() {
  host_.reset();
  return EndGeneration();
}

bool BenchChannel::Call() { return CallOutcome() == BH_OUTCOME_ANSWERED; }

uint32_t BenchChannel::CallOutcome() { return CallWith48Bytes(*shim_); }

}  // namespace bulkhead
