// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A stack of channels: which are asked, in which order, and about which callbacks.
#include <memory>
#include <vector>

#include "tests/testing/fake_channel.h"
#include "shim/core/internal.h"

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
			config.spec.altitude = altitude;
			config.cookie = &cookies[channels.size()];
			if (altitude == 100)
				config.callbacks = bh_set_of(BH_CALLBACK_FILE_EXEC);
			channels.push_back(std::make_unique<FakeChannel>(&platform, config));
			channels.back()->BeginGeneration(1);
			EXPECT_EQ(bh_shim_add(&shim, channels.back()->c), 0);
		}
	}
	int Start(bh_call *call)
	{
		bh_call_start(&shim, call);
		return Step(call);
	}
	// What the driver that has the call is told, from now on.
	uint64_t VisitTimeNs(size_t asked, const bh_call &call)
	{
		return channels[asked]->Call(call.slot)->deadline_ns - platform.now_ns;
	}
	// So many calls were in its hands at the end of their visit, and all for a whole visit.
	void ExpectHung(size_t asked, uint64_t calls)
	{
		ExpectOverdue(asked, calls, calls);
	}
	void ExpectOverdue(size_t asked, uint64_t calls, uint64_t hangs)
	{
		const bh_statistics statistics = channels[asked]->Statistics();
		EXPECT_EQ(statistics.overdue, calls) << asked;
		EXPECT_EQ(statistics.by_policy[BH_REASON_OVERDUE], calls) << asked;
		uint64_t events = 0;
		for (const SeenEvent &seen : platform.events)
			events += seen.event == BH_EVENT_HUNG &&
				  seen.cookie == channels[asked]->config.cookie;
		EXPECT_EQ(events, hangs) << asked;
	}
	// The reasons by which a call does not end at a driver that is overdue with it.
	void AllowOverdue()
	{
		for (auto &channel : channels) {
			bh_policy *policy = &channel->config.spec.policy;
			SetRule(policy, BH_REASON_OVERDUE, BH_ACTION_ALLOW, BH_ACTION_ALLOW);
			ASSERT_EQ(bh_channel_set_policy(channel->c, policy), 0);
		}
	}
	int Step(bh_call *call)
	{
		return bh_call_step(call, platform.now_ns, &wait);
	}
	FakePlatform platform;
	uint32_t generation = 1;
	int cookies[3];
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

TEST_F(StackTest, ADriverThatNeverAnswersLeavesTheNextItsTurn)
{
	AllowOverdue();
	bh_call call = FileCall(7, platform.now_ns + 1000);
	ASSERT_EQ(Start(&call), 0);
	ASSERT_EQ(call.channel, channels[1]->c);
	channels[1]->Begin(call.slot);
	EXPECT_EQ(VisitTimeNs(1, call), 500u); // the driver at 100 is not asked about this
	EXPECT_EQ(wait.until_ns, platform.now_ns + 500);
	platform.now_ns += 499;
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(call.channel, channels[1]->c);
	platform.now_ns += 1;
	ASSERT_EQ(Step(&call), 0);
	ASSERT_EQ(call.channel, channels[0]->c);
	EXPECT_EQ(VisitTimeNs(0, call), 500u);
	EXPECT_EQ(wait.until_ns, call.deadline_ns);
	channels[0]->Answer(call.slot, BH_VERDICT_DENY, BH_CACHE_NOT, 13);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(call.error, 13u);
	ExpectHung(1, 1);
	ExpectHung(0, 0);
}

TEST_F(StackTest, AVisitThatEndsEarlyLeavesItsTimeToTheNext)
{
	bh_call call = FileCall(7, platform.now_ns + 1000, BH_CALLBACK_FILE_EXEC);
	ASSERT_EQ(Start(&call), 0);
	EXPECT_EQ(VisitTimeNs(1, call), 333u);
	platform.now_ns += 100;
	channels[1]->Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(VisitTimeNs(0, call), 450u);
	channels[0]->Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(VisitTimeNs(2, call), 900u);
}

TEST_F(StackTest, OfThreeThatNeverAnswerEachHasItsTurnAndIsBlamedForItsOwn)
{
	AllowOverdue();
	bh_call call = FileCall(7, platform.now_ns + 900, BH_CALLBACK_FILE_EXEC);
	ASSERT_EQ(Start(&call), 0);
	for (size_t asked : {size_t{1}, size_t{0}, size_t{2}}) {
		ASSERT_EQ(call.channel, channels[asked]->c);
		channels[asked]->Begin(call.slot);
		EXPECT_EQ(VisitTimeNs(asked, call), 300u);
		ExpectHung(asked, 0);
		platform.now_ns += 300;
		Step(&call);
		ExpectHung(asked, 1);
	}
	EXPECT_EQ(platform.now_ns, call.deadline_ns);
	EXPECT_EQ(call.outcome, BH_OUTCOME_POLICY);
	EXPECT_EQ(call.reason, BH_REASON_OVERDUE);
	EXPECT_EQ(call.issues, 3u);
}

TEST_F(StackTest, WhatOneDriverDidNotDecideIsNotDecidedByTheNextOnesAllowance)
{
	AllowOverdue();
	for (uint32_t verdict : {BH_VERDICT_ALLOW, BH_VERDICT_DENY}) {
		bh_call call = FileCall(7, platform.now_ns + 1000);
		ASSERT_EQ(Start(&call), 0);
		channels[1]->Begin(call.slot);
		platform.now_ns += 500;
		ASSERT_EQ(Step(&call), 0);
		ASSERT_EQ(call.channel, channels[0]->c);
		channels[0]->Answer(call.slot, verdict);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.verdict, verdict);
		const bool allowed = verdict == BH_VERDICT_ALLOW;
		EXPECT_EQ(call.outcome, allowed ? BH_OUTCOME_POLICY : BH_OUTCOME_ANSWERED);
		EXPECT_EQ(call.reason, allowed ? uint32_t{BH_REASON_OVERDUE} : 0u);
	}
}

TEST_F(StackTest, ACallThatADriverIsOverdueWithIsDeniedWithoutAskingTheNext)
{
	bh_call call = FileCall(7, platform.now_ns + 1000);
	ASSERT_EQ(Start(&call), 0);
	channels[1]->Begin(call.slot);
	platform.now_ns += 500;
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_POLICY);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(channels[0]->Statistics().calls, 0u);
}

TEST_F(StackTest, ACallIsHeldForAHostNoLongerThanItsShare)
{
	ASSERT_EQ(bh_channel_end_generation(channels[1]->c, 1, BH_END_CRASHED), 0);
	bh_call call = FileCall(7, platform.now_ns + 1000);
	ASSERT_EQ(Start(&call), 0);
	EXPECT_EQ(call.state, uint32_t{BH_CALL_NEED_HOST});
	EXPECT_EQ(wait.until_ns, platform.now_ns + 500);
	platform.now_ns += 500;
	ASSERT_EQ(Step(&call), 0);
	ASSERT_EQ(call.channel, channels[0]->c);
	channels[0]->Answer(call.slot, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(channels[1]->Statistics().by_policy[BH_REASON_CRASHED], 1u);
	ExpectHung(1, 0);
}

TEST_F(StackTest, ACallIsHeldForRoomNoLongerThanItsShare)
{
	constexpr uint64_t kMs = 1'000'000;
	const uint32_t slots = bh_slot_count(&channels[1]->config.spec.geometry);
	std::vector<bh_call> others(slots);
	for (bh_call &other : others) {
		other = FileCall(8, platform.now_ns + 100000 * kMs);
		ASSERT_EQ(Start(&other), 0);
		channels[1]->Begin(other.slot);
	}
	bh_call call = FileCall(7, platform.now_ns + 1000 * kMs);
	ASSERT_EQ(Start(&call), 0);
	EXPECT_EQ(call.state, uint32_t{BH_CALL_NEED_SLOT});
	EXPECT_EQ(wait.until_ns, platform.now_ns + 500 * kMs);
	platform.now_ns += 500 * kMs;
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(call.channel, channels[0]->c);
	EXPECT_EQ(channels[1]->Statistics().by_policy[BH_REASON_FULL], 1u);
	ExpectHung(1, 0);
}

TEST_F(StackTest, ARestartGetsNoNewShare)
{
	constexpr uint64_t kMs = 1'000'000;
	AllowOverdue();
	bh_call call = FileCall(7, platform.now_ns + 1000 * kMs);
	ASSERT_EQ(Start(&call), 0);
	channels[1]->Begin(call.slot);
	platform.now_ns += 400 * kMs;
	ASSERT_EQ(bh_channel_end_generation(channels[1]->c, 1, BH_END_CRASHED), 0);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(wait.until_ns, platform.now_ns + 100 * kMs);
	ASSERT_EQ(channels[1]->BeginGeneration(2), 0);
	ASSERT_EQ(Step(&call), 0);
	ASSERT_EQ(call.channel, channels[1]->c);
	EXPECT_EQ(call.issues, 2u);
	EXPECT_EQ(VisitTimeNs(1, call), 100 * kMs);
	channels[1]->Begin(call.slot);
	platform.now_ns += 100 * kMs;
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(call.channel, channels[0]->c);
	// With a fifth of its share it could not answer: the host is not blamed.
	ExpectOverdue(1, 1, 0);
}

TEST_F(StackTest, ALateAnswerIsDroppedWhileTheNextDriverIsAsked)
{
	AllowOverdue();
	bh_call call = FileCall(7, platform.now_ns + 1000);
	ASSERT_EQ(Start(&call), 0);
	const uint32_t slot = call.slot;
	channels[1]->Begin(slot);
	platform.now_ns += 500;
	ASSERT_EQ(Step(&call), 0);
	ASSERT_EQ(call.channel, channels[0]->c);
	channels[1]->Answer(slot, BH_VERDICT_DENY);
	EXPECT_EQ(Step(&call), 0);
	channels[0]->Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_ALLOW);
	bh_slots_reclaim(channels[1]->c);
	EXPECT_EQ(channels[1]->Statistics().late, 1u);
}

TEST_F(StackTest, ASingleDriverHasTheWholeDeadlineAndCostsNoLookAtTheClock)
{
	bh_shim alone;
	bh_shim_init(&alone, &platform.c);
	ASSERT_EQ(bh_shim_add(&alone, channels[0]->c), 0);
	platform.c.now_ns = [](void *) -> uint64_t {
		ADD_FAILURE() << "the clock was read";
		return 0;
	};
	bh_call call = FileCall(7, platform.now_ns + 1000);
	bh_call_start(&alone, &call);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(VisitTimeNs(0, call), 1000u);
	EXPECT_EQ(wait.until_ns, call.deadline_ns);
	channels[0]->Begin(call.slot);
	platform.now_ns += 999;
	ASSERT_EQ(Step(&call), 0);
	platform.now_ns += 1;
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.reason, BH_REASON_OVERDUE);
}

TEST_F(StackTest, TheOnlyDriverThatIsAskedHasTheWholeDeadline)
{
	channels[1]->config.callbacks = bh_set_of(BH_CALLBACK_FILE_EXEC);
	bh_channel_set_wanted(channels[1]->c, channels[1]->Spec());
	bh_call call = FileCall(7, platform.now_ns + 1000);
	ASSERT_EQ(Start(&call), 0);
	EXPECT_EQ(call.channel, channels[0]->c);
	EXPECT_EQ(VisitTimeNs(0, call), 1000u);
}

TEST_F(StackTest, ACallThatIsOverdueWhenItComesIsNoDriversFault)
{
	for (uint64_t late_ns : {uint64_t{0}, uint64_t{1}, uint64_t{1000}}) {
		bh_call call = FileCall(7, platform.now_ns - late_ns);
		ASSERT_EQ(Start(&call), 1);
		EXPECT_EQ(call.outcome, BH_OUTCOME_POLICY);
		EXPECT_EQ(call.reason, BH_REASON_FULL);
		EXPECT_EQ(call.issues, 0u);
		for (size_t asked : {size_t{0}, size_t{1}})
			ExpectHung(asked, 0);
	}
}

TEST_F(StackTest, ADriverIsNotBlamedForTheTimeBeforeItsVisit)
{
	AllowOverdue();
	platform.coarse_behind_ns = BH_COARSE_NS;
	const uint64_t began_ns = platform.now_ns;
	bh_call call = FileCall(7, began_ns + BH_COARSE_NS);
	platform.on_wait = [&](uint32_t *, uint32_t, uint64_t until_ns) {
		const bool first = call.channel == channels[1]->c;
		EXPECT_EQ(until_ns, began_ns + BH_COARSE_NS / (first ? 2 : 1));
		EXPECT_GE(until_ns, platform.now_ns + BH_COARSE_NS / 2);
		channels[first ? 1 : 0]->Begin(call.slot);
		platform.now_ns = until_ns;
		return 0;
	};
	bh_call_run(&shim, &call);
	EXPECT_EQ(platform.waits, 2u);
	EXPECT_EQ(call.issues, 2u);
	EXPECT_EQ(call.ended_ns, began_ns + BH_COARSE_NS);
}

TEST_F(StackTest, AShareThatEndsBeforeTheCallerWaitsIsNoDriversFault)
{
	platform.coarse_behind_ns = BH_COARSE_NS;
	bh_call call = FileCall(7, platform.now_ns + 100ull * BH_COARSE_NS);
	bh_call_start(&shim, &call);
	ASSERT_EQ(bh_call_try_caches(&call, platform.now_ns), 0);
	platform.now_ns += 50ull * BH_COARSE_NS; // while it looks for the file's name
	EXPECT_EQ(bh_call_run_until(&call, platform.now_ns), 0);
	EXPECT_EQ(call.channel, channels[0]->c);
	EXPECT_EQ(call.issues, 1u);
	EXPECT_EQ(channels[1]->Statistics().by_policy[BH_REASON_FULL], 1u);
	ExpectHung(1, 0);
}

TEST_F(StackTest, AnOldLookAtTheClockTakesAtMostATenthOfAShare)
{
	for (uint64_t time_ns = BH_COARSE_NS; time_ns <= 64ull * BH_COARSE_NS;
	     time_ns += BH_COARSE_NS / 2) {
		bh_call call = FileCall(7, platform.now_ns + time_ns);
		bh_call_start(&shim, &call);
		ASSERT_EQ(bh_call_step(&call, platform.now_ns - BH_COARSE_NS, &wait), 0);
		EXPECT_GE(VisitTimeNs(1, call), time_ns / 2 * 9 / 10) << time_ns;
		EXPECT_LE(VisitTimeNs(1, call), time_ns / 2) << time_ns;
		bh_call_cancel(&call, platform.now_ns);
		ASSERT_EQ(channels[1]->BeginGeneration(++generation), 0); // the slot comes back
	}
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
	config.spec.flags &= ~uint32_t{BH_CHANNEL_PATHS};
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
