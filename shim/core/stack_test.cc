// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A stack of channels: which are asked, in which order, and about which callbacks.
#include <memory>
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

class StackTest : public ::testing::Test
{
      protected:
	StackTest()
	{
		bh_shim_init(&shim, &platform.c);
		for (uint32_t altitude : {200u, 300u, 100u}) {
			bh_channel_config config = TestConfig();
			config.altitude = altitude;
			if (altitude == 100)
				config.callbacks = bh_set_of(BH_CALLBACK_FILE_EXEC);
			channels.push_back(std::make_unique<FakeChannel>(&platform, config));
			channels.back()->BeginGeneration(1);
			EXPECT_EQ(bh_shim_add(&shim, channels.back()->c), 0);
		}
	}
	int Step(bh_call *call)
	{
		return bh_call_step(call, platform.now_ns, &wait);
	}
	FakePlatform platform;
	std::vector<std::unique_ptr<FakeChannel>> channels;
	bh_shim shim;
	bh_wait wait{};
};

TEST_F(StackTest, DriversAreAskedByAltitudeAndTheFirstDenialWins)
{
	bh_call call = FileCall(7, platform.now_ns + 1000, BH_CALLBACK_FILE_EXEC);
	bh_call_start(&shim, &call);
	for (size_t asked : {size_t{1}, size_t{0}, size_t{2}}) {
		ASSERT_EQ(Step(&call), 0);
		EXPECT_EQ(call.channel, channels[asked]->c);
		channels[asked]->Answer(call.slot, BH_VERDICT_ALLOW);
	}
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.verdict, BH_VERDICT_ALLOW);
	EXPECT_EQ(call.issues, 3u);

	bh_call_start(&shim, &call);
	ASSERT_EQ(Step(&call), 0);
	channels[1]->Answer(call.slot, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(channels[0]->Statistics().calls, 1u);
}

TEST_F(StackTest, ChannelsAreSkippedForWhatTheyDidNotRegister)
{
	bh_call call = FileCall(7, platform.now_ns + 1000);
	bh_call_start(&shim, &call);
	Step(&call);
	channels[1]->Answer(call.slot, BH_VERDICT_ALLOW);
	Step(&call);
	channels[0]->Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(channels[2]->Statistics().calls, 0u);

	for (uint32_t callback : {uint32_t{BH_CALLBACK_FILE_ACCESS}, 0x7777u, 0u, ~0u}) {
		bh_call unasked = FileCall(7, platform.now_ns + 1000, callback);
		bh_call_start(&shim, &unasked);
		ASSERT_EQ(Step(&unasked), 1);
		EXPECT_EQ(unasked.outcome, BH_OUTCOME_UNASKED);
		EXPECT_EQ(unasked.verdict, BH_VERDICT_ALLOW);
	}
}

TEST_F(StackTest, BeforeTheFirstGenerationNothingPassesUnasked)
{
	bh_channel_config config;
	bh_channel_config_default(&config);
	FakeChannel channel(&platform, config);
	bh_shim alone;
	bh_shim_init(&alone, &platform.c);
	ASSERT_EQ(bh_shim_add(&alone, channel.c), 0);
	for (uint32_t callback :
	     {BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS}) {
		EXPECT_TRUE(bh_shim_wants(&alone, callback) & BH_WANTS_CALL);
		bh_call held = FileCall(7, platform.now_ns + 1000, callback);
		bh_call_start(&alone, &held);
		EXPECT_EQ(Step(&held), 0);
		platform.now_ns = held.deadline_ns;
		ASSERT_EQ(Step(&held), 1);
		EXPECT_EQ(held.outcome, BH_OUTCOME_POLICY);
		EXPECT_EQ(held.reason, BH_REASON_ABSENT);
	}
	/* What its first host declares is all that is asked from then on. */
	channel.config.callbacks = bh_set_of(BH_CALLBACK_FILE_EXEC);
	channel.BeginGeneration(1);
	EXPECT_FALSE(bh_shim_wants(&alone, BH_CALLBACK_FILE_OPEN));
}

TEST_F(StackTest, TheDeadlineIsShared)
{
	bh_call call = FileCall(7, platform.now_ns + 1000);
	bh_call_start(&shim, &call);
	Step(&call);
	channels[1]->Answer(call.slot, BH_VERDICT_ALLOW);
	platform.now_ns = call.deadline_ns;
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_POLICY);
	EXPECT_EQ(call.issues, 1u);
	EXPECT_EQ(channels[0]->Statistics().calls, 1u);
}

TEST_F(StackTest, AStackHasItsSize)
{
	for (uint32_t i = 3; i < BH_CHANNELS_MAX; i++)
		EXPECT_EQ(bh_shim_add(&shim, channels[0]->c), 0);
	EXPECT_EQ(bh_shim_add(&shim, channels[0]->c), -1);
}

TEST_F(StackTest, AStackWantsWhatItsDriversWant)
{
	EXPECT_EQ(bh_shim_wants(&shim, BH_CALLBACK_FILE_OPEN), BH_WANTS_CALL | BH_WANTS_PATH);
	EXPECT_EQ(bh_shim_wants(&shim, BH_CALLBACK_FILE_ACCESS), 0u);

	bh_channel_config config = TestConfig();
	config.without_paths = 1;
	FakeChannel without(&platform, config);
	bh_shim alone;
	bh_shim_init(&alone, &platform.c);
	ASSERT_EQ(bh_shim_add(&alone, without.c), 0);
	EXPECT_EQ(bh_shim_wants(&alone, BH_CALLBACK_FILE_OPEN), BH_WANTS_CALL);
	ASSERT_EQ(bh_shim_add(&alone, channels[2]->c), 0); // asked about executions alone
	EXPECT_EQ(bh_shim_wants(&alone, BH_CALLBACK_FILE_OPEN), BH_WANTS_CALL);
	EXPECT_EQ(bh_shim_wants(&alone, BH_CALLBACK_FILE_EXEC), BH_WANTS_CALL | BH_WANTS_PATH);
}

} // namespace
} // namespace bulkhead
