// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/envelope.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/control/shim_protocol.h"
#include "tests/testing/control_messages.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

std::string Refusal(absl::Span<const uint8_t> bytes) {
  const absl::Status status = VerifyEnvelope(bytes);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(Envelope, TextIsCut) {
  const ControlBuffer buffer = MakeLogLine(wire::LogLevel::Error, std::string(1 << 20, 'x'));
  EXPECT_EQ(Body<wire::LogLine>(buffer).text()->size(), kControlTextBytesMax);
}

TEST(Envelope, EveryMessageVerifies) {
  Body<wire::Hello>(MakeHello(1, 1));
  Body<wire::Started>(MakeStarted({.generation = 1, .driver_version = "1.0"}));
  Body<wire::StartFailed>(MakeStartFailed(1, "no rules"));
  Body<wire::Ping>(MakePing(1));
  Body<wire::Pong>(MakePong(1, 2, 3));
  Body<wire::Drain>(MakeDrain(1));
  Body<wire::ShimHello>(MakeShimHello(1, 2, 3));
  Body<wire::BeginGeneration>(
      MakeBeginGeneration(1, 0, GenerationSpec(2, SetOf({BH_CALLBACK_FILE_EXEC}))));
  Body<wire::EndGeneration>(MakeEndGeneration(1, 0, 2, BH_END_HOSTILE));
  Body<wire::SetState>(MakeSetState(1, 0, true, false));
  Body<wire::GetStatistics>(MakeGetStatistics(1, 0));
  Body<wire::Result>(MakeResult(1, "no such channel", nullptr));
  Body<wire::ShimEvent>(MakeShimEvent(0, 1, 2, 3, 4));
  Body<wire::GetStatus>(MakeGetStatus());
  Body<wire::SetContent>(MakeSetContent("scanner", "/opt/rules"));
  Body<wire::Release>(MakeRelease("scanner"));
  Body<wire::Shutdown>(MakeShutdown());
  Body<wire::Done>(MakeDone("", 3));
  Body<wire::Reload>(MakeReload());
  Body<wire::SignIn>(MakeSignIn());
  EXPECT_EQ(Body<wire::SignInLink>(MakeSignInLink("http://localhost/#a")).link()->str(),
            "http://localhost/#a");
  Body<wire::GetEvents>(MakeGetEvents(7));
  Body<wire::Events>(MakeEvents({.events = {{.sequence = 8, .kind = "Serving"}}, .newest = 8}));
}

TEST(Envelope, EachKindOfBadBytesHasItsOwnRefusal) {
  const std::vector<uint8_t> short_message = {1, 2, 3};
  EXPECT_THAT(Refusal(short_message), HasSubstr("too short"));
  EXPECT_THAT(Refusal({}), HasSubstr("too short"));

  EXPECT_THAT(Refusal(std::vector<uint8_t>(kControlBytesMax + 1)), HasSubstr("more than"));
  EXPECT_THAT(Refusal(std::vector<uint8_t>(64, 0x5a)), HasSubstr("identifier"));

  const ControlBuffer good = MakeAttach(SomeAttach());
  std::vector<uint8_t> truncated(good.data(), good.data() + good.size() / 2);
  EXPECT_THAT(Refusal(truncated), HasSubstr("truncated or corrupt"));

  flatbuffers::FlatBufferBuilder builder;
  wire::FinishEnvelopeBuffer(builder, wire::CreateEnvelope(builder, 99, wire::Message::Ping,
                                                           wire::CreatePing(builder, 1).Union()));
  EXPECT_THAT(Refusal({builder.GetBufferPointer(), builder.GetSize()}), HasSubstr("version 99"));

  builder.Clear();
  wire::FinishEnvelopeBuffer(builder,
                             wire::CreateEnvelope(builder, 1, static_cast<wire::Message>(200),
                                                  wire::CreatePing(builder, 1).Union()));
  EXPECT_THAT(Refusal({builder.GetBufferPointer(), builder.GetSize()}),
              HasSubstr("unknown type 200"));
}

// Every prefix, and many flipped bits: refused, or harmless to read. ASan and UBSan watch the
// reads.
TEST(Envelope, TruncatedAndFlippedBytesAreRefusedOrHarmless) {
  const ControlBuffer good = MakeAttach(SomeAttach());
  for (size_t length = 0; length < good.size(); ++length) {
    const std::vector<uint8_t> cut(good.data(), good.data() + length);
    EXPECT_FALSE(VerifyEnvelope(cut).ok()) << length;
  }
  size_t accepted = 0;
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::vector<uint8_t> flipped(good.data(), good.data() + good.size());
    flipped[bit / 8] = static_cast<uint8_t>(flipped[bit / 8] ^ (1u << (bit % 8)));
    if (!VerifyEnvelope(flipped).ok()) continue;
    ++accepted;
    const wire::Envelope* envelope = wire::GetEnvelope(flipped.data());
    if (envelope->message_type() == wire::Message::Attach) {
      (void)ReadAttach(*static_cast<const wire::Attach*>(envelope->message()));
    }
  }
  EXPECT_GT(accepted, 0u);                // numbers and text may change
  EXPECT_LT(accepted, good.size() * 8u);  // structure may not
}

TEST(Envelope, RandomBytesAreRefused) {
  std::mt19937 random(20240719);
  for (int round = 0; round < 10'000; ++round) {
    std::vector<uint8_t> noise(random() % 256);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
    // Past the identifier, so that the verifier gets to see it.
    if (noise.size() >= 8) std::copy_n(wire::EnvelopeIdentifier(), 4, noise.begin() + 4);
    EXPECT_FALSE(VerifyEnvelope(noise).ok());
  }
}

}  // namespace
}  // namespace bulkhead
