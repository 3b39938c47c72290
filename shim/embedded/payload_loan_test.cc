// SPDX-License-Identifier: Apache-2.0
// A payload that is filled in place, on its way from the application to a host and back.
#include "shim/embedded/payload_loan.h"

#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

constexpr size_t kBytes = size_t{256} * BH_POOL_CHUNK_BYTES;  // 1 MiB, all of the pool

class PayloadLoanTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "test";
    spec.geometry = {.lanes = 1, .slots_per_lane = 4, .call_chunks = 256, .reply_chunks = 0};
    spec.cache_entries = 0;
    ASSERT_TRUE(shim_->AddChannel(spec).ok());
  }

  static bh_call NewCall() {
    bh_call call = {};
    call.callback = BH_CALLBACK_FILE_OPEN;
    call.descriptor = -1;
    call.deadline_ns = MonotonicAfterNs(30 * kNanosecondsPerSecond);
    return call;
  }

  std::unique_ptr<EmbeddedShim> shim_;
};

TEST_F(PayloadLoanTest, TheHostReadsThePayloadFilledInPlace) {
  absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(0);
  ASSERT_TRUE(regions.ok()) << regions.status();
  auto port = HostPort::Attach(std::move(regions->call_region), std::move(regions->reply_region),
                               UniqueFd(), {.generation = 1, .workers = 1, .spin_ns = 0});
  ASSERT_TRUE(port.ok()) << port.status();
  ASSERT_TRUE(
      shim_
          ->BeginGeneration(0, GenerationSpec(1, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1), UniqueFd())
          .ok());
  std::thread host([&port] {
    const uint64_t until_ns = MonotonicAfterNs(30 * kNanosecondsPerSecond);
    for (char content : {'a', 'b'}) {
      std::optional<TakenCall> call = (*port)->Take(0, until_ns);
      if (!call) return;
      absl::StatusOr<CallDetails> details = (*port)->Details(*call);
      const bool whole = details.ok() && details->payload.size() == kBytes &&
                         details->payload_text() == std::string(kBytes, content);
      const bh_verdict_reply reply = {
          .verdict = whole ? uint32_t{BH_VERDICT_ALLOW} : uint32_t{BH_VERDICT_DENY},
          .cacheability = BH_CACHE_NOT};
      (*port)->Reply(*call, BH_REPLY_DONE,
                     {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
    }
  });
  for (char content : {'a', 'b'}) {
    absl::StatusOr<PayloadLoan> loan = shim_->Lend(0, kBytes);
    ASSERT_TRUE(loan.ok()) << loan.status();  // the previous call gave its room back
    ASSERT_EQ(loan->bytes().size(), kBytes);
    std::memset(loan->bytes().data(), content, kBytes);
    bh_call call = NewCall();
    loan->MakePayloadOf(call);
    shim_->Call(&call);
    EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
    EXPECT_EQ(call.verdict, BH_VERDICT_ALLOW);
  }
  host.join();
}

TEST_F(PayloadLoanTest, GivesItsRoomBackWhenNoCallGotIt) {
  {
    absl::StatusOr<PayloadLoan> loan = shim_->Lend(0, kBytes);
    ASSERT_TRUE(loan.ok()) << loan.status();
    const PayloadLoan moved = *std::move(loan);
    EXPECT_TRUE(absl::IsResourceExhausted(shim_->Lend(0, 1).status()));
    EXPECT_EQ(moved.bytes().size(), kBytes);
  }
  EXPECT_TRUE(shim_->Lend(0, kBytes).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(shim_->Lend(0, 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(shim_->Lend(0, kBytes + 1).status()));
  EXPECT_TRUE(absl::IsNotFound(shim_->Lend(1, kBytes).status()));
}

}  // namespace
}  // namespace bulkhead
