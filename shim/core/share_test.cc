// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// How the slots are shared out among openers.
#include <algorithm>
#include <deque>
#include <functional>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

constexpr uint32_t kGreedy = 1001, kOther = 1002, kThird = 1003;
constexpr uint32_t kSameQueue = 16; // openers that far apart share a queue
constexpr uint32_t kSlots = 16;     // of one lane: the last four are shared out

bh_channel_config OneLane(uint32_t slots)
{
	bh_channel_config config = TestConfig();
	config.spec.geometry = {1, slots, 0, 0};
	return config;
}

class ShareTest : public CoreTest
{
      protected:
	explicit ShareTest(uint32_t slots = kSlots) : CoreTest(OneLane(slots))
	{
		channel.BeginGeneration(1);
	}
	bh_call &Call(uint32_t opener)
	{
		calls.push_back(NewCall());
		calls.back().opener = opener;
		Start(&calls.back());
		return calls.back();
	}
	void AnswerAll()
	{
		for (bh_call &call : calls)
			if (call.attempts && call.outcome == BH_OUTCOME_PENDING) {
				channel.Answer(call.slot, BH_VERDICT_ALLOW);
				Step(&call);
			}
	}
	// How many of `count` calls the host got.
	uint32_t Issued(uint32_t opener, uint32_t count)
	{
		uint32_t issued = 0;
		for (uint32_t i = 0; i < count; ++i)
			issued += Call(opener).issues;
		return issued;
	}

	std::deque<bh_call> calls; // they stay where they are
};

TEST_F(ShareTest, OneWhoTakesAllLeavesRoomForEachOther)
{
	EXPECT_EQ(Issued(kGreedy, 100), kSlots - kSlots / 4);
	EXPECT_EQ(Issued(kOther, 100), 2u);
	EXPECT_EQ(Issued(kThird, 100), 1u);
	EXPECT_EQ(Issued(kThird + 1, 100), 1u) << "the last slot is for one who has none";
	EXPECT_EQ(Issued(kThird + 2, 1), 0u);
}

TEST_F(ShareTest, WhoIsNotKnownMayTakeAll)
{
	EXPECT_EQ(Issued(0, 100), kSlots);
}

TEST_F(ShareTest, AShareIsOfWhatIsInUse)
{
	EXPECT_EQ(Issued(kGreedy, kSlots - kSlots / 4), kSlots - kSlots / 4);
	bh_call &waits = Call(kGreedy);
	EXPECT_EQ(waits.issues, 0u);
	channel.Answer(0, BH_VERDICT_ALLOW);
	Step(&calls.front());
	Step(&waits);
	EXPECT_EQ(waits.issues, 1u);
	EXPECT_EQ(waits.slot, 0u);
}

// Also what its openers do not wait for any more.
TEST_F(ShareTest, AbandonedSlotsCount)
{
	Issued(kGreedy, 100);
	for (bh_call &call : calls)
		bh_call_cancel(&call, platform.now_ns);
	EXPECT_EQ(Issued(kGreedy, 100), 0u);
	EXPECT_EQ(Issued(kOther, 1), 1u);
}

// However few they are: two slow files keep a driver with two workers from a third.
TEST_F(ShareTest, WhatAUsersOwnCallsKeepFromItsTurnIsNotAllowed)
{
	bh_call &in_hand = Call(kGreedy);
	channel.Begin(in_hand.slot);
	bh_call &queued = Call(kGreedy);
	bh_call &alone = Call(kOther);
	bh_call &of_root = Call(BH_OPENER_ROOT), &of_root_too = Call(BH_OPENER_ROOT);
	bh_call &unknown = Call(0), &unknown_too = Call(0);
	ASSERT_EQ(queued.issues + alone.issues + of_root.issues + unknown.issues, 4u);
	platform.now_ns = in_hand.deadline_ns;
	for (bh_call &call : calls)
		Step(&call);
	ExpectPolicy(in_hand, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	ExpectPolicy(queued, BH_REASON_CROWD, BH_VERDICT_DENY);
	for (const bh_call *call : {&alone, &of_root, &of_root_too, &unknown, &unknown_too}) {
		EXPECT_EQ(call->outcome, BH_OUTCOME_POLICY);
		EXPECT_TRUE(call->reason == BH_REASON_FULL || call->reason == BH_REASON_HUNG)
			<< call->reason;
		EXPECT_EQ(call->verdict, BH_VERDICT_ALLOW);
	}
	EXPECT_EQ(channel.Statistics().let_through, 5u);
}

TEST_F(ShareTest, NorWhatFindsNoSlot)
{
	Issued(kGreedy, kSlots - kSlots / 4);
	bh_call &greedy = Call(kGreedy);
	Issued(0, kSlots);
	bh_call &other = Call(kOther);
	ASSERT_EQ(greedy.issues + other.issues, 0u);
	platform.now_ns = greedy.deadline_ns;
	Step(&greedy);
	ExpectPolicy(greedy, BH_REASON_CROWD, BH_VERDICT_DENY);
	Step(&other);
	ExpectPolicy(other, BH_REASON_FULL, BH_VERDICT_ALLOW);
}

// It is woken late, and finds none of its user's calls in a slot any more.
TEST_F(ShareTest, NorWhatWaitedWhileItsUsersCallsHadTheirTurns)
{
	for (uint32_t turns : {kSlots / 4 - 1, kSlots / 4}) {
		Issued(0, kSlots); // others have them all
		bh_call &waits = Call(kGreedy);
		ASSERT_EQ(waits.issues, 0u);
		AnswerAll();
		platform.now_ns += 10000000;
		ASSERT_EQ(Issued(kGreedy, turns), turns);
		AnswerAll();
		platform.now_ns = waits.deadline_ns;
		Step(&waits);
		if (turns == kSlots / 4)
			ExpectPolicy(waits, BH_REASON_CROWD, BH_VERDICT_DENY);
		else // a call or two are no crowd
			ExpectPolicy(waits, BH_REASON_FULL, BH_VERDICT_ALLOW);
		calls.clear();
		platform.now_ns += 10000000;
	}
}

// With a driver above it that has answered.
TEST_F(ShareTest, TurnsAreThoseOfAVisit)
{
	bh_channel_config config = OneLane(2 * kSlots);
	config.spec.altitude = channel.config.spec.altitude + 1;
	FakeChannel above(&platform, config);
	above.BeginGeneration(1);
	ASSERT_EQ(bh_shim_add(&shim, above.c), 0);
	const auto pass = [&](uint32_t opener) -> bh_call & {
		bh_call &call = Call(opener);
		above.Answer(call.slot, BH_VERDICT_ALLOW);
		Step(&call);
		return call;
	};
	for (uint32_t i = 0; i < kSlots; i++)
		pass(0);
	bh_call &waits = pass(kGreedy);
	ASSERT_EQ(waits.issues, 1u);
	ASSERT_EQ(waits.attempts, 0u);
	AnswerAll();
	platform.now_ns += 10000000;
	for (uint32_t i = 0; i < kSlots / 4; i++)
		pass(kGreedy);
	AnswerAll();
	platform.now_ns = waits.deadline_ns;
	Step(&waits);
	ExpectPolicy(waits, BH_REASON_CROWD, BH_VERDICT_DENY);
}

// Those of before it came are no turns that it missed.
TEST_F(ShareTest, WhatAUserDidBeforeIsNoCrowd)
{
	bh_call &before = Call(kOther);
	channel.Answer(before.slot, BH_VERDICT_ALLOW);
	Step(&before);
	platform.now_ns += 10000000;
	Issued(0, kSlots);
	bh_call &other = Call(kOther);
	ASSERT_EQ(other.issues, 0u);
	platform.now_ns = other.deadline_ns;
	Step(&other);
	ExpectPolicy(other, BH_REASON_FULL, BH_VERDICT_ALLOW);
}

// Where the operator lets calls pass that find no room, a user's own flood does not.
TEST_F(ShareTest, TheRuleForACrowdHoldsAtOnceToo)
{
	SetPolicy(BH_REASON_FULL, BH_ACTION_ALLOW, BH_ACTION_ALLOW);
	SetPolicy(BH_REASON_CROWD, BH_ACTION_DENY, BH_ACTION_DENY);
	Issued(kGreedy, kSlots - kSlots / 4);
	ExpectPolicy(Call(kGreedy), BH_REASON_CROWD, BH_VERDICT_DENY);
	Issued(0, kSlots / 4);
	ExpectPolicy(Call(kOther), BH_REASON_FULL, BH_VERDICT_ALLOW);
}

TEST_F(ShareTest, WhoseCallItIsMayBecomeKnownLater)
{
	Issued(0, kSlots - kSlots / 4);
	for (bh_call &call : calls)
		bh_call_charge(&call, kGreedy);
	EXPECT_EQ(Issued(kGreedy, 100), 0u);
	EXPECT_EQ(channel.Call(0)->opener, kGreedy);
	EXPECT_EQ(Issued(kOther, 100), 2u);
}

class FewSlotsTest : public ShareTest
{
      protected:
	FewSlotsTest() : ShareTest(3)
	{
	}
};

TEST_F(FewSlotsTest, WithoutAFourthThereIsNothingToShareOut)
{
	EXPECT_EQ(Issued(kGreedy, 100), 3u);
}

// Those that wait for a slot: a thousand that are woken for each that is freed keep a CPU busy.
class RoomTest : public ShareTest
{
      protected:
	RoomTest() : ShareTest(4)
	{
		for (uint32_t opener : {kThird, kThird + 1, kThird + 2, kThird + 3})
			EXPECT_EQ(Call(opener).issues, 1u);
	}
	// A call that sleeps until there is room; the word that it sleeps on.
	uint32_t *Sleeps(uint32_t opener)
	{
		bh_call &call = Call(opener);
		EXPECT_TRUE(bh_call_will_sleep(&call, &wait));
		EXPECT_EQ(Step(&call), 0);
		EXPECT_FALSE(bh_call_will_sleep(&call, &wait));
		EXPECT_EQ(call.issues, 0u);
		return wait.word;
	}
	// How many sleepers on the word are woken by what `free` does.
	int Woken(uint32_t *word, const std::function<void()> &free)
	{
		platform.wakes.clear();
		platform.woken_counts.clear();
		free();
		int woken = 0;
		for (size_t i = 0; i < platform.wakes.size(); i++)
			if (platform.wakes[i] == word)
				woken = std::max(woken, platform.woken_counts[i]);
		return woken;
	}
	void Finish(bh_call &call)
	{
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
	}
};

TEST_F(RoomTest, OneSleeperOfEachOpenerIsWoken)
{
	uint32_t *const greedy = Sleeps(kGreedy), *const other = Sleeps(kOther);
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(Sleeps(kGreedy), greedy);
	EXPECT_NE(greedy, other);
	EXPECT_EQ(Woken(greedy, [this] { Finish(calls[0]); }), 1);
	EXPECT_EQ(Woken(other, [this] { Finish(calls[1]); }), 1);
}

TEST_F(RoomTest, AllAreWokenWhereTwoOpenersShareAQueue)
{
	uint32_t *const word = Sleeps(kGreedy);
	ASSERT_EQ(Sleeps(kGreedy + kSameQueue), word);
	EXPECT_GT(Woken(word, [this] { Finish(calls[0]); }), 1);
	for (size_t sleeper : {4u, 5u})
		bh_call_cancel(&calls[sleeper], platform.now_ns);
	EXPECT_EQ(Call(kThird).issues, 1u);
	EXPECT_EQ(Sleeps(kGreedy + kSameQueue), word);
	EXPECT_EQ(Woken(word, [this] { Finish(calls[1]); }), 1) << "of one opener again";
}

// It may have been woken for room that it does not take.
TEST_F(RoomTest, WhoLeavesWithoutRoomWakesTheNext)
{
	uint32_t *const word = Sleeps(kGreedy);
	Sleeps(kGreedy);
	EXPECT_EQ(Woken(word, [this] { bh_call_cancel(&calls[4], platform.now_ns); }), 1);
	EXPECT_EQ(Woken(word, [this] { bh_call_cancel(&calls[5], platform.now_ns); }), 0)
		<< "there is none";
}

TEST_F(RoomTest, AllLookAgainWhenAGenerationEnds)
{
	uint32_t *const word = Sleeps(kGreedy);
	EXPECT_GT(Woken(word,
			[this] {
				ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED),
					  0);
			}),
		  1);
}

} // namespace
} // namespace bulkhead
