// SPDX-License-Identifier: Apache-2.0
//
// A call of Bulkhead with 48 bytes inline through a channel of the embedded shim; the
// host answers with a verdict. Both sides spin, or both sleep.
#include <cstring>

#include "bench/peers/transport.h"
#include "bench/prepare_call.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

static_assert(sizeof(Payload) == BH_INLINE_BYTES);

constexpr uint32_t kSpinNs = 1'000'000;  // longer than any wait here: a spinning side never sleeps
constexpr uint64_t kLookNs = 2'000'000;  // how long the host waits before it checks whether it is
                                         // its turn
constexpr int kCallsAtOnce = 256;

class Bulkhead final : public Transport {
 public:
  explicit Bulkhead(uint32_t spin_ns) : spin_ns_(spin_ns) {}

  absl::Status Prepare() override {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    if (!shim.ok()) return shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "bench";
    spec.geometry = {.lanes = 2, .slots_per_lane = 16, .call_chunks = 0, .reply_chunks = 0};
    spec.spin_ns = spin_ns_;
    spec.cache_entries = 0;
    absl::StatusOr<ChannelId> channel = shim_->AddChannel(spec);
    if (!channel.ok()) return channel.status();
    absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(*channel);
    if (!regions.ok()) return regions.status();
    regions_ = *std::move(regions);
    return absl::OkStatus();
  }

  absl::Status StartServer() override {
    auto port = HostPort::Attach(std::move(regions_.call_region), std::move(regions_.reply_region),
                                 UniqueFd(), {.generation = 1, .workers = 1, .spin_ns = spin_ns_});
    if (!port.ok()) return port.status();
    port_ = *std::move(port);
    return absl::OkStatus();
  }

  absl::Status StartClient() override {
    return shim_->BeginGeneration(0, GenerationSpec(1, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1),
                                  UniqueFd());
  }

  void Serve() override {
    const uint64_t until_ns = MonotonicAfterNs(kLookNs);
    const bh_verdict_reply reply = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
    for (int i = 0; i < kCallsAtOnce; ++i) {
      std::optional<TakenCall> call = port_->Take(0, until_ns);
      if (!call) return;
      port_->BeginDriver(*call);
      port_->Reply(*call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
    }
  }

  // The answer is the verdict, which the shim has checked.
  bool Call(Payload& payload) override {
    const uint64_t now_ns = MonotonicCoarseNs();
    bh_call call;
    PrepareCall(call, now_ns);
    call.args_bytes = sizeof(payload);
    std::memcpy(call.args, &payload, sizeof(payload));
    shim_->Call(&call, now_ns);
    Answer(payload);
    return call.outcome == BH_OUTCOME_ANSWERED && call.verdict == BH_VERDICT_ALLOW;
  }

 private:
  const uint32_t spin_ns_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelDescriptors regions_;
  std::unique_ptr<HostPort> port_;
};

}  // namespace

std::unique_ptr<Transport> MakeBulkhead(bool spinning) {
  return std::make_unique<Bulkhead>(spinning ? kSpinNs : 0);
}

}  // namespace bulkhead
