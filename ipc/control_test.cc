// SPDX-License-Identifier: Apache-2.0
#include "ipc/control.h"

#include "ipc/abi/callbacks.h"
#include "ipc/abi/notification.h"
#include "ipc/generation_spec.h"
#include "ipc/statistics.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

absl::Span<const uint8_t> Bytes(const ControlBuffer& buffer) {
  return {buffer.data(), buffer.size()};
}

std::string Refusal(absl::Span<const uint8_t> bytes) {
  const absl::Status status = VerifyEnvelope(bytes);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

template <typename T>
const T& Body(const ControlBuffer& buffer) {
  EXPECT_TRUE(VerifyEnvelope(Bytes(buffer)).ok()) << VerifyEnvelope(Bytes(buffer));
  const wire::Envelope* envelope = wire::GetEnvelope(buffer.data());
  // A copy: the generated constant has no definition to refer to.
  constexpr wire::Message kType = wire::MessageTraits<T>::enum_value;
  EXPECT_EQ(envelope->message_type(), kType);
  return *static_cast<const T*>(envelope->message());
}

AttachFields SomeAttach() {
  AttachFields fields;
  fields.generation = 3;
  fields.reason = BH_START_CRASH_RESTART;
  fields.geometry = {2, 16, 64, 32};
  fields.workers = 4;
  fields.driver_name = "scanner";
  fields.driver_path = "/opt/scanner.so";
  fields.content_path = "/opt/rules";
  fields.content_version = 7;
  fields.options = "fast";
  fields.callbacks = SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_ACCESS});
  fields.notifications = SetOf({BH_NOTIFY_FILE_DELETED, BH_NOTIFY_MODULE_LOADED});
  fields.checkpoint_bytes = 4096;
  fields.spin_ns = 20'000;
  fields.pending_calls_max = 1000;
  fields.sandbox = 1;
  return fields;
}

TEST(Control, AttachSurvivesTheTrip) {
  const ControlBuffer buffer = MakeAttach(SomeAttach());
  auto read = ReadAttach(Body<wire::Attach>(buffer));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->generation, 3u);
  EXPECT_EQ(read->reason, BH_START_CRASH_RESTART);
  EXPECT_EQ(read->geometry.reply_chunks, 32u);
  EXPECT_EQ(read->workers, 4u);
  EXPECT_EQ(read->driver_name, "scanner");
  EXPECT_EQ(read->driver_path, "/opt/scanner.so");
  EXPECT_EQ(read->content_path, "/opt/rules");
  EXPECT_EQ(read->content_version, 7u);
  EXPECT_EQ(read->options, "fast");
  EXPECT_EQ(read->callbacks, SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_ACCESS}));
  EXPECT_EQ(read->notifications, SetOf({BH_NOTIFY_FILE_DELETED, BH_NOTIFY_MODULE_LOADED}));
  EXPECT_EQ(read->checkpoint_bytes, 4096u);
  EXPECT_EQ(read->spin_ns, 20'000u);
  EXPECT_EQ(read->pending_calls_max, 1000u);
  EXPECT_EQ(read->sandbox, 1u);
}

TEST(Control, ReadAttachRefusesImpossibleValues) {
  auto refusal = [](void (*change)(AttachFields&)) {
    AttachFields fields = SomeAttach();
    change(fields);
    const ControlBuffer buffer = MakeAttach(fields);
    return std::string(ReadAttach(Body<wire::Attach>(buffer)).status().message());
  };
  EXPECT_THAT(refusal([](AttachFields& f) { f.geometry.lanes = 0; }), HasSubstr("geometry"));
  EXPECT_THAT(refusal([](AttachFields& f) { f.generation = 0; }), HasSubstr("generation"));
  EXPECT_THAT(refusal([](AttachFields& f) { f.workers = 17; }), HasSubstr("workers"));
  EXPECT_THAT(refusal([](AttachFields& f) { f.reason = bh_start{}; }), HasSubstr("reason"));
}

TEST(Control, PolicySurvivesTheTripAndIsChecked) {
  bh_policy policy = DefaultPolicy();
  policy.rule[BH_CLASS_FILE][1] = {BH_ACTION_CACHED, BH_ACTION_DENY};
  const ControlBuffer buffer = MakeSetPolicy(9, 2, policy);
  const auto& message = Body<wire::SetPolicy>(buffer);
  EXPECT_EQ(message.request(), 9u);
  EXPECT_EQ(message.channel(), 2u);
  auto read = ReadPolicy(message);
  ASSERT_TRUE(read.ok()) << read.status();
  for (size_t i = 0; i < BH_CLASS_COUNT; ++i) {
    for (size_t j = 0; j < BH_REASON_COUNT; ++j) {
      EXPECT_EQ(read->rule[i][j].action, policy.rule[i][j].action);
      EXPECT_EQ(read->rule[i][j].fallback, policy.rule[i][j].fallback);
    }
  }

  policy.rule[0][0].fallback = BH_ACTION_HOLD;  // not a fallback
  const ControlBuffer bad = MakeSetPolicy(9, 2, policy);
  EXPECT_THAT(std::string(ReadPolicy(Body<wire::SetPolicy>(bad)).status().message()),
              HasSubstr("rule 0"));
}

TEST(Control, StatisticsAndStatusSurviveTheTrip) {
  StatusFields fields;
  fields.pid = 11;
  fields.attachment = "fanotify";
  fields.guarded = {"/srv/a", "/srv/b"};
  fields.filtered = 7;
  DriverStatusFields driver;
  driver.name = "scanner";
  driver.state = "serving";
  driver.restarts = 4;
  // Each counter with a value of its own.
  uint64_t number = 0;
  for (uint64_t& word : WordsOf(driver.statistics)) word = ++number;
  fields.drivers = {driver, driver};
  const ControlBuffer buffer = MakeStatus(fields);
  const StatusFields read = ReadStatus(Body<wire::Status>(buffer));
  EXPECT_EQ(read.filtered, 7u);
  EXPECT_EQ(read.pid, 11u);
  EXPECT_EQ(read.attachment, "fanotify");
  EXPECT_EQ(read.guarded, fields.guarded);
  ASSERT_EQ(read.drivers.size(), 2u);
  EXPECT_EQ(read.drivers[1].restarts, 4u);
  EXPECT_EQ(WordsOf(read.drivers[1].statistics), WordsOf(driver.statistics));

  const ControlBuffer result = MakeResult(5, "", &driver.statistics);
  EXPECT_EQ(Body<wire::Result>(result).error(), nullptr);
  const bh_statistics answered = ReadStatistics(*Body<wire::Result>(result).statistics());
  EXPECT_EQ(WordsOf(answered), WordsOf(driver.statistics));
}

TEST(Control, TheLargestStatusFitsADatagram) {
  StatusFields fields;
  fields.attachment = std::string(100'000, 'x');
  fields.guarded.assign(1'000, std::string(100'000, 'x'));
  DriverStatusFields driver;
  driver.name = driver.version = driver.state = driver.content_path = driver.last_end =
      std::string(100'000, 'x');
  fields.drivers.assign(100, driver);
  const ControlBuffer buffer = MakeStatus(fields);
  EXPECT_LE(buffer.size(), kControlBytesMax);
  EXPECT_EQ(ReadStatus(Body<wire::Status>(buffer)).drivers.size(), 8u);
}

TEST(Control, TextIsCut) {
  const ControlBuffer buffer = MakeLogLine(wire::LogLevel::Error, std::string(1 << 20, 'x'));
  EXPECT_EQ(Body<wire::LogLine>(buffer).text()->size(), kControlTextBytesMax);
}

TEST(Control, EveryMessageVerifies) {
  Body<wire::Hello>(MakeHello(1, 1, 4242));
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
}

TEST(Control, EachKindOfBadBytesHasItsOwnRefusal) {
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
TEST(Control, TruncatedAndFlippedBytesAreRefusedOrHarmless) {
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

TEST(Control, RandomBytesAreRefused) {
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
