// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Which call is held to account for a dead host, and how suspects are told from bystanders.
#include <gmock/gmock.h>

#include <deque>
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

class BlameTest : public CoreTest
{
      protected:
	void Crash(uint32_t end = BH_END_CRASHED)
	{
		ASSERT_EQ(bh_channel_end_generation(channel.c, generation, end), 0);
	}
	void Begin()
	{
		ASSERT_EQ(channel.BeginGeneration(++generation), 0);
	}
	bool InHost(const bh_call &call)
	{
		return bh_ticket_generation(call.ticket) == generation &&
		       channel.Call(call.slot)->ticket == call.ticket &&
		       call.outcome == BH_OUTCOME_PENDING;
	}
	void Finish(bh_call *call)
	{
		channel.Answer(call->slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(call), 1);
		EXPECT_EQ(call->outcome, BH_OUTCOME_ANSWERED);
	}
	uint32_t generation = 0;
};

TEST_F(BlameTest, TwoCrashesMakePoisonAndTheDriverGoesOn)
{
	bh_call poison = NewCall(1), innocent = NewCall(2);
	Begin();
	Start(&poison);
	Start(&innocent);
	channel.Begin(poison.slot);
	Crash();
	EXPECT_EQ(Step(&poison), 0);
	EXPECT_EQ(Step(&innocent), 0);
	EXPECT_EQ(poison.crashes, 1u);
	EXPECT_EQ(innocent.crashes, 0u);
	Begin();
	Step(&poison);
	Step(&innocent);
	channel.Begin(poison.slot);
	Crash(BH_END_HUNG);
	ASSERT_EQ(Step(&poison), 1);
	ExpectPolicy(poison, BH_REASON_POISON, BH_VERDICT_DENY);
	ASSERT_EQ(platform.Count(BH_EVENT_POISON), 1u);
	EXPECT_EQ(platform.events[0].call_id, poison.call_id);
	EXPECT_EQ(channel.Statistics().poisoned, 1u);
	Step(&innocent);
	Begin();
	ASSERT_EQ(Step(&innocent), 0);
	Finish(&innocent);
	EXPECT_EQ(innocent.issues, 3u);
}

class PoisonTest : public BlameTest
{
      protected:
	PoisonTest()
	{
		channel.SetContent(1);
		Begin();
		ExpectAsked(NewCall(999));
	}
	// One call crashes two hosts; the third serves.
	void Poison(bh_call call, uint32_t end = BH_END_CRASHED)
	{
		ASSERT_EQ(Start(&call), 0);
		for (int crash = 0; crash < 2; crash++) {
			channel.Begin(call.slot);
			Crash(end);
			Begin();
			ASSERT_EQ(Step(&call), crash);
		}
		ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
	}
	void Poison(uint64_t inode)
	{
		Poison(NewCall(inode));
	}
	// A call that ends for its caller when a host has fallen over it.
	void CrashOnce(uint64_t inode)
	{
		bh_call call = NewCall(inode);
		ASSERT_EQ(Start(&call), 0);
		channel.Begin(call.slot);
		Crash();
		Begin();
		bh_call_step(&call, platform.now_ns, &wait);
		bh_call_cancel(&call, platform.now_ns);
		if (bh_ticket_generation(call.ticket) == generation)
			channel.Answer(call.slot, BH_VERDICT_ALLOW);
	}
	void ExpectPoison(bh_call call)
	{
		ASSERT_EQ(Start(&call), 1);
		ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
		EXPECT_EQ(call.issues, 0u);
	}
	void ExpectAsked(bh_call call)
	{
		ASSERT_EQ(Start(&call), 0);
		ASSERT_TRUE(InHost(call));
		Finish(&call);
	}
	static bh_call Changed(bh_call call, uint64_t change)
	{
		bh_file_args args;
		memcpy(&args, call.args, sizeof(args));
		args.change = change;
		memcpy(call.args, &args, sizeof(args));
		return call;
	}
};

TEST_F(PoisonTest, AnObjectThatCrashedTwoHostsCostsNoThird)
{
	Poison(1);
	for (int i = 0; i < 100; i++)
		ExpectPoison(NewCall(1));
	ExpectPoison(FileCall(1, platform.now_ns + 1000, BH_CALLBACK_FILE_EXEC));
	ExpectAsked(NewCall(2));
	const bh_statistics statistics = channel.Statistics();
	EXPECT_EQ(statistics.poisoned, 1u);
	EXPECT_EQ(statistics.poison_known, 1u);
	EXPECT_EQ(statistics.by_policy[BH_REASON_POISON], 102u);
	EXPECT_EQ(statistics.calls, 104u);
	EXPECT_EQ(platform.Count(BH_EVENT_POISON), 2u)
		<< "of the call and of the object, once each";
}

TEST_F(PoisonTest, ItIsRememberedUntilObjectContentOrDriverChanges)
{
	Poison(1);
	ExpectAsked(Changed(NewCall(1), 2));
	ExpectPoison(NewCall(1));
	channel.SetContent(2);
	EXPECT_EQ(channel.Statistics().poison_known, 0u);
	ExpectAsked(NewCall(1));
	channel.SetContent(1); // taken back
	ExpectPoison(NewCall(1));
}

// New content is tried, taken back, tried again: each may cost two hosts, and no more.
TEST_F(PoisonTest, TwoContentsThatTakeTurnsFallOverAnObjectOnceEach)
{
	Poison(1);
	channel.SetContent(2);
	Begin();
	CrashOnce(1);
	for (uint64_t content = 1; content < 20; content++) {
		channel.SetContent(1 + content % 2);
		Begin();
		ExpectPoison(NewCall(1));
		ExpectAsked(Changed(NewCall(1), 2));
	}
	channel.SetContent(3);
	Begin();
	CrashOnce(1);
	ExpectPoison(NewCall(1));
	channel.SetContent(1);
	Begin();
	ExpectAsked(NewCall(1)); // the last two are remembered
}

TEST_F(PoisonTest, AnObjectThatHasChangedIsNotPoisonToTheContentOfBefore)
{
	Poison(1);
	channel.SetContent(2);
	Begin();
	bh_call call = Changed(NewCall(1), 2);
	ASSERT_EQ(Start(&call), 0);
	channel.Begin(call.slot);
	Crash();
	bh_call_cancel(&call, platform.now_ns);
	channel.SetContent(1);
	Begin();
	ExpectAsked(Changed(NewCall(1), 2));
}

TEST_F(PoisonTest, CallersThatGiveUpDoNotSaveTheObject)
{
	CrashOnce(1);
	CrashOnce(1);
	ExpectPoison(NewCall(1));
}

// The opener is killed while the driver has its file, and then the host falls over it.
TEST_F(PoisonTest, NorDoOpenersThatAreKilledBefore)
{
	for (uint32_t end : {BH_END_CRASHED, BH_END_HUNG}) {
		bh_call call = NewCall(1);
		ASSERT_EQ(Start(&call), 0);
		channel.Begin(call.slot);
		bh_call_cancel(&call, platform.now_ns);
		Crash(end);
		Begin();
	}
	ExpectPoison(NewCall(1));
	ASSERT_EQ(platform.Count(BH_EVENT_POISON), 1u);
	EXPECT_EQ(platform.events[0].call_id, 0u) << "of the object";
	EXPECT_EQ(platform.events[0].generation, 2u);
}

// However many are opened at once, and whatever the driver's workers have of them.
TEST_F(PoisonTest, ManyCallsAboutOneObjectCostTwoHosts)
{
	bh_call calls[12];
	for (bh_call &call : calls) {
		call = NewCall(1);
		call.deadline_ns += 1'000'000'000;
		bh_call_start(&shim, &call);
	}
	uint32_t ended = 0, falls = 0;
	for (int round = 0; round < 20 && ended < 12; round++) {
		uint32_t begun = 0;
		for (bh_call &call : calls) {
			if (call.outcome == BH_OUTCOME_PENDING)
				ended += Step(&call) ? 1u : 0u;
			if (call.outcome == BH_OUTCOME_PENDING && InHost(call) && begun < 2) {
				channel.Begin(call.slot);
				begun++;
			}
		}
		if (!begun)
			continue;
		Crash();
		Begin();
		falls++;
	}
	EXPECT_EQ(ended, 12u);
	EXPECT_EQ(falls, 2u);
	for (const bh_call &call : calls)
		ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
}

TEST_F(PoisonTest, AStrikeStaysWhenTheObjectChanges)
{
	for (uint64_t change = 1; change <= 2; change++) {
		bh_call call = Changed(NewCall(1), change);
		ASSERT_EQ(Start(&call), 0);
		channel.Begin(call.slot);
		Crash();
		Begin();
		bh_call_cancel(&call, platform.now_ns);
	}
	ExpectPoison(Changed(NewCall(1), 2));
	ExpectAsked(Changed(NewCall(1), 3));
}

TEST_F(PoisonTest, AnAnswerWipesAStrikeOff)
{
	for (int i = 0; i < 5; i++) {
		CrashOnce(1);
		ExpectAsked(NewCall(1));
	}
}

// Files that are opened while another crashes hosts are not taken for it.
TEST_F(PoisonTest, NoObjectIsConvictedForWhatIsInHandBesideIt)
{
	for (uint64_t file = 10; file < 30; file++) {
		bh_call libc = NewCall(1), crash = NewCall(file);
		ASSERT_EQ(Start(&libc), 0);
		ASSERT_EQ(Start(&crash), 0);
		channel.Begin(libc.slot);
		channel.Begin(crash.slot);
		Crash();
		Begin();
		bh_call_cancel(&libc, platform.now_ns);
		bh_call_cancel(&crash, platform.now_ns);
	}
	EXPECT_EQ(channel.Statistics().poison_known, 0u);
	ExpectAsked(NewCall(1));
}

// Then the driver is broken, and no file is to be denied for it.
TEST_F(BlameTest, NothingIsConvictedByADriverThatHasAnsweredNothing)
{
	for (int opened = 0; opened < 3; opened++) {
		Begin();
		bh_call call = NewCall(1);
		ASSERT_EQ(Start(&call), 0) << opened;
		channel.Begin(call.slot);
		bh_call_cancel(&call, platform.now_ns);
		Crash();
	}
}

TEST_F(PoisonTest, AHostThatHangsOverAnObjectTwiceConvictsIt)
{
	for (int hang = 0; hang < 2; hang++) {
		bh_call call = NewCall(1);
		ASSERT_EQ(Start(&call), 0);
		channel.Begin(call.slot);
		platform.now_ns = call.deadline_ns;
		ASSERT_EQ(Step(&call), 1);
		ExpectPolicy(call, BH_REASON_OVERDUE, BH_VERDICT_DENY);
		Crash(BH_END_HUNG);
		Begin();
	}
	ExpectPoison(NewCall(1));
	EXPECT_EQ(channel.Statistics().poison_known, 1u);
}

TEST_F(PoisonTest, AnOperatorLiftsIt)
{
	Poison(1);
	bh_channel_set_quarantined(channel.c, 1);
	ExpectPoison(NewCall(1));
	bh_channel_set_quarantined(channel.c, 0);
	ExpectPoison(NewCall(1));
	bh_channel_forgive(channel.c);
	EXPECT_EQ(channel.Statistics().poison_known, 0u);
	ExpectAsked(NewCall(1));
	Poison(1);
	ExpectPoison(NewCall(1));
}

TEST_F(PoisonTest, TheOperatorsAnswerHoldsForWhatIsRemembered)
{
	Poison(1);
	SetPolicy(BH_REASON_POISON, BH_ACTION_ALLOW, BH_ACTION_ALLOW);
	bh_call call = NewCall(1);
	ASSERT_EQ(Start(&call), 1);
	ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_ALLOW);
}

// Another object may have the same numbers.
TEST_F(PoisonTest, AnObjectWhoseChangesCantBeSeenIsNotRemembered)
{
	Poison(Changed(NewCall(1), 0));
	ExpectAsked(Changed(NewCall(1), 0));
	Poison(NewCall(0));
	ExpectAsked(NewCall(0));
}

TEST_F(PoisonTest, KillsFromOutsideConvictNoObject)
{
	bh_call call = NewCall(1);
	call.deadline_ns = BH_NO_DEADLINE;
	bh_call_start(&shim, &call);
	for (uint32_t kill = 1; kill <= 16; kill++) {
		Step(&call);
		channel.Begin(call.slot);
		Crash(BH_END_KILLED);
		Step(&call);
		Begin();
	}
	ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
	ExpectAsked(NewCall(1));
}

TEST_F(PoisonTest, WantOfMemoryIsTheCallsDoing)
{
	Poison(NewCall(1), BH_END_STARVED);
	ExpectPoison(NewCall(1));
	ExpectAsked(NewCall(2));
}

TEST_F(PoisonTest, TheFirstOfManyConvictionsGoes)
{
	for (uint64_t inode = 1; inode <= 9; inode++)
		Poison(inode);
	EXPECT_EQ(channel.Statistics().poison_known, 8u);
	for (uint64_t inode = 2; inode <= 9; inode++)
		ExpectPoison(NewCall(inode));
	ExpectAsked(NewCall(1));
	// Strikes without number drop no conviction.
	for (uint64_t inode = 100; inode < 200; inode++)
		CrashOnce(inode);
	for (uint64_t inode = 2; inode <= 9; inode++)
		ExpectPoison(NewCall(inode));
	ExpectAsked(NewCall(150));
}

TEST_F(BlameTest, SuspectsGoOneAtATimeBesideTheOthers)
{
	bh_call guilty = NewCall(1), bystander = NewCall(2), fresh = NewCall(3);
	Begin();
	Start(&bystander);
	Start(&guilty);
	channel.Begin(bystander.slot);
	channel.Begin(guilty.slot);
	Crash();
	Step(&bystander);
	Step(&guilty);
	EXPECT_EQ(bystander.crashes, 1u);
	Begin();
	Step(&guilty); // came second to the queue
	EXPECT_FALSE(InHost(guilty));
	Step(&bystander);
	EXPECT_TRUE(InHost(bystander));
	Start(&fresh);
	EXPECT_TRUE(InHost(fresh));
	Step(&guilty);
	EXPECT_FALSE(InHost(guilty));
	// It sleeps until the seat is free.
	EXPECT_TRUE(bh_call_will_sleep(&guilty, &wait));
	Step(&guilty);
	EXPECT_FALSE(bh_call_will_sleep(&guilty, &wait));
	Finish(&bystander);
	bh_call_awake(&guilty);
	Step(&guilty);
	ASSERT_TRUE(InHost(guilty));
	channel.Begin(guilty.slot);
	Crash();
	ASSERT_EQ(Step(&guilty), 1);
	ExpectPolicy(guilty, BH_REASON_POISON, BH_VERDICT_DENY);
	EXPECT_EQ(platform.Count(BH_EVENT_POISON), 1u);
}

TEST_F(BlameTest, ASuspectThatWaitsStillEndsByItsDeadline)
{
	bh_call first = NewCall(1), second = NewCall(2);
	first.deadline_ns += 1'000'000;
	Begin();
	Start(&first);
	Start(&second);
	channel.Begin(first.slot);
	channel.Begin(second.slot);
	Crash();
	Step(&first);
	Step(&second);
	Begin();
	Step(&first);
	ASSERT_EQ(Step(&second), 0);
	platform.now_ns = second.deadline_ns;
	ASSERT_EQ(Step(&second), 1);
	ExpectPolicy(second, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	Finish(&first);
}

TEST_F(BlameTest, ASuspectThatEndedInTheHostStillHoldsTheSeat)
{
	bh_call overdue = NewCall(1), next = NewCall(2);
	next.deadline_ns += 1'000'000'000;
	Begin();
	Start(&overdue);
	Start(&next);
	channel.Begin(overdue.slot);
	channel.Begin(next.slot);
	Crash();
	Step(&overdue);
	Step(&next);
	Begin();
	Step(&overdue);
	const uint32_t slot = overdue.slot;
	platform.now_ns = overdue.deadline_ns;
	ASSERT_EQ(Step(&overdue), 1);
	// The host may still crash over it: the next one must not be there then.
	ASSERT_EQ(Step(&next), 0);
	EXPECT_FALSE(InHost(next));
	EXPECT_LE(wait.until_ns, platform.now_ns + 1'000'000);
	channel.Answer(slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&next), 0);
	EXPECT_TRUE(InHost(next));
	Finish(&next);
}

TEST_F(BlameTest, KillsFromOutsideHaveALargerBudget)
{
	bh_call call = NewCall();
	call.deadline_ns = BH_NO_DEADLINE;
	bh_call_start(&shim, &call);
	for (uint32_t kill = 1; kill <= 16; kill++) {
		Begin();
		ASSERT_EQ(Step(&call), 0);
		ASSERT_TRUE(InHost(call)) << "a killed host makes no suspect";
		channel.Begin(call.slot);
		Crash(BH_END_KILLED);
		ASSERT_EQ(Step(&call), kill == 16) << kill;
	}
	ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
}

TEST_F(BlameTest, OrderlyStopsAndUnbegunCallsAreNotCharged)
{
	bh_call call = NewCall();
	call.deadline_ns = BH_NO_DEADLINE;
	bh_call_start(&shim, &call);
	for (int i = 0; i < 40; i++) {
		Begin();
		ASSERT_EQ(Step(&call), 0);
		if (i % 2)
			channel.Begin(call.slot);
		Crash(i % 2 ? BH_END_STOPPED : BH_END_CRASHED);
		ASSERT_EQ(Step(&call), 0);
	}
	EXPECT_EQ(call.crashes, 0u);
	EXPECT_EQ(call.kills, 0u);
}

TEST_F(BlameTest, AHostCanOnlyAccuseItsOwnCalls)
{
	Begin();
	bh_call call = NewCall();
	Start(&call);
	for (uint32_t slot = 0; slot < bh_slot_count(&channel.config.spec.geometry); slot++)
		channel.Reply(slot)->begun = slot == call.slot ? call.ticket + 1 : call.ticket;
	ASSERT_EQ(bh_channel_end_generation(channel.c, generation, BH_END_CRASHED), 0);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(call.crashes, 0u);
}

// One thread may have begun all of them: what was answered since, in whichever order, is not
// charged, and what waits is.
TEST_F(BlameTest, AnyNumberOfCallsMayBeInHandAndEndInAnyOrder)
{
	Begin();
	bh_call calls[4];
	for (bh_call &call : calls) {
		call = NewCall();
		call.reissue = BH_REISSUE_IF_UNBEGUN;
		Start(&call);
	}
	for (const bh_call *begun : {&calls[3], &calls[0], &calls[2]})
		channel.Begin(begun->slot);
	Finish(&calls[2]);
	channel.Answer(calls[0].slot, BH_VERDICT_DENY); // no caller has looked yet
	Crash();
	ASSERT_EQ(Step(&calls[0]), 1);
	EXPECT_EQ(calls[0].outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(calls[0].crashes, 0u);
	ASSERT_EQ(Step(&calls[3]), 1);
	EXPECT_EQ(calls[3].outcome, BH_OUTCOME_UNKNOWN);
	EXPECT_EQ(calls[3].crashes, 1u);
	Begin();
	ASSERT_EQ(Step(&calls[1]), 0);
	EXPECT_TRUE(InHost(calls[1]));
	EXPECT_EQ(calls[1].crashes, 0u);
}

// Tickets can be foretold.
TEST_F(BlameTest, ADeadHostCannotAccuseTheCallsOfItsSuccessor)
{
	Begin();
	for (uint32_t slot = 0; slot < bh_slot_count(&channel.config.spec.geometry); slot++)
		channel.Reply(slot)->begun = bh_ticket_make(generation + 1, 1);
	Crash();
	Begin();
	bh_call call = NewCall();
	Start(&call);
	ASSERT_EQ(call.ticket, bh_ticket_make(generation, 1));
	Crash();
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(call.crashes, 0u);
}

// A slot's next issue is not begun because the one before it was.
TEST_F(BlameTest, WhatAnEarlierIssueLeftBehindIsNotBelieved)
{
	Begin();
	bh_call first = NewCall(), next = NewCall();
	Start(&first);
	channel.Begin(first.slot);
	Finish(&first);
	Start(&next);
	ASSERT_EQ(next.slot, first.slot);
	Crash();
	ASSERT_EQ(Step(&next), 0);
	EXPECT_EQ(next.crashes, 0u);
}

// For the supervisor: whose calls explain the fall.
class InHandTest : public PoisonTest
{
      protected:
	bh_call CallAbout(uint32_t owner)
	{
		bh_call call = NewCall(++inode);
		call.owner = owner;
		return call;
	}
	std::vector<uint32_t> Users(uint32_t of)
	{
		bh_in_hand in_hand = {};
		EXPECT_EQ(bh_channel_in_hand(channel.c, of, &in_hand), 0);
		EXPECT_LE(in_hand.count, BH_USERS_MAX);
		return {in_hand.users, in_hand.users + in_hand.count};
	}
	uint64_t inode = 100;
};

TEST_F(InHandTest, IsWhatTheDriverHadBegunAndNotAnswered)
{
	bh_call answered = CallAbout(1001), begun = CallAbout(1002), again = CallAbout(1002),
		other = CallAbout(1), waits = CallAbout(1003);
	for (bh_call *call : {&answered, &begun, &again, &other, &waits})
		ASSERT_EQ(Start(call), 0);
	for (const bh_call *call : {&answered, &begun, &again, &other})
		channel.Begin(call->slot);
	Finish(&answered);
	Crash();
	EXPECT_THAT(Users(generation), testing::UnorderedElementsAre(1002u, 1u));
	Begin();
	Crash();
	EXPECT_THAT(Users(generation), testing::IsEmpty()) << "none has been begun again";
}

TEST_F(InHandTest, WhoGaveUpWaitingIsNotForgotten)
{
	bh_call late = CallAbout(1001), killed = CallAbout(1002);
	ASSERT_EQ(Start(&late), 0);
	ASSERT_EQ(Start(&killed), 0);
	channel.Begin(late.slot);
	channel.Begin(killed.slot);
	bh_call_cancel(&killed, platform.now_ns);
	platform.now_ns = late.deadline_ns;
	ASSERT_EQ(Step(&late), 1);
	Crash(BH_END_HUNG);
	EXPECT_THAT(Users(generation), testing::UnorderedElementsAre(1001u, 1002u));
}

TEST_F(InHandTest, IsOfTheGenerationThatEndedLast)
{
	bh_in_hand in_hand = {};
	EXPECT_EQ(bh_channel_in_hand(channel.c, 0, &in_hand), -1);
	EXPECT_EQ(bh_channel_in_hand(channel.c, generation, &in_hand), -1) << "it lives";
	Crash();
	EXPECT_EQ(bh_channel_in_hand(channel.c, generation, &in_hand), 0);
	Begin();
	Crash();
	EXPECT_EQ(bh_channel_in_hand(channel.c, generation - 1, &in_hand), -1);
	EXPECT_EQ(bh_channel_in_hand(channel.c, generation, &in_hand), 0);
}

// Root's files are what a machine can't do without, and a broken driver falls over them, too.
TEST_F(BlameTest, OfADriverThatHasNeverAnsweredOnlyUsersFilesExplainAFall)
{
	for (uint32_t owner : {0u, 1u, 1001u}) {
		Begin();
		bh_call call = NewCall(owner + 1);
		call.opener = 1001;
		call.owner = owner;
		ASSERT_EQ(Start(&call), 0);
		channel.Begin(call.slot);
		Crash();
		bh_in_hand in_hand = {};
		ASSERT_EQ(bh_channel_in_hand(channel.c, generation, &in_hand), 0);
		EXPECT_EQ(in_hand.count, owner > 1 ? 1u : 0u);
		Begin();
		ASSERT_EQ(Step(&call), 0);
		channel.Begin(call.slot);
		Crash();
		EXPECT_EQ(channel.Statistics().poison_known, owner > 1 ? 1u : 0u);
	}
}

// No other file was asked about meanwhile: it is the driver.
TEST_F(BlameTest, NorDoTheyForEver)
{
	for (int host = 0; host < 20; host++) {
		Begin();
		bh_call call = NewCall(static_cast<uint64_t>(host) + 1);
		call.owner = 1001 + static_cast<uint32_t>(host); // one would be convicted
		ASSERT_EQ(Start(&call), 0) << host;
		channel.Begin(call.slot);
		Crash();
		bh_in_hand in_hand = {};
		ASSERT_EQ(bh_channel_in_hand(channel.c, generation, &in_hand), 0);
		EXPECT_EQ(in_hand.count, host < 16 ? 1u : 0u) << host;
		bh_call_cancel(&call, platform.now_ns);
	}
}

bh_channel_config ManySlots()
{
	bh_channel_config config = TestConfig();
	config.spec.geometry.slots_per_lane = 32;
	return config;
}

class ManyInHandTest : public CoreTest
{
      protected:
	ManyInHandTest() : CoreTest(ManySlots())
	{
	}
};

TEST_F(ManyInHandTest, MoreUsersThanThereIsRoomForAreCounted)
{
	ASSERT_EQ(channel.BeginGeneration(1), 0);
	std::deque<bh_call> calls;
	for (uint32_t owner = 1; owner <= BH_USERS_MAX + 3; owner++) {
		calls.push_back(NewCall(owner));
		calls.back().owner = owner;
		ASSERT_EQ(Start(&calls.back()), 0) << owner;
		channel.Begin(calls.back().slot);
	}
	calls.push_back(NewCall(100));
	ASSERT_EQ(Start(&calls.back()), 0);
	channel.Answer(calls.back().slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&calls.back()), 1);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED), 0);
	bh_in_hand in_hand = {};
	ASSERT_EQ(bh_channel_in_hand(channel.c, 1, &in_hand), 0);
	EXPECT_EQ(in_hand.count, BH_USERS_MAX + 1);
}

// Users that make files without number over which the driver falls.
class UserTest : public InHandTest
{
      protected:
	bh_call CallOf(uint32_t opener, uint32_t owner)
	{
		bh_call call = CallAbout(owner);
		call.opener = opener;
		return call;
	}
	// Two hosts fall over a file; `beside` is in hand each time.
	void FallOver(uint32_t opener, uint32_t owner, bh_call *beside = nullptr,
		      uint32_t end = BH_END_CRASHED)
	{
		bh_call call = CallOf(opener, owner);
		ASSERT_EQ(Start(&call), 0) << "it is asked about";
		for (int fall = 0; fall < 2; fall++) {
			if (beside) {
				*beside = CallOf(kBen, kBen);
				ASSERT_EQ(Start(beside), 0);
				channel.Begin(beside->slot);
			}
			channel.Begin(call.slot);
			Crash(end);
			Begin();
			if (beside)
				bh_call_cancel(beside, platform.now_ns);
			if (Step(&call))
				break;
		}
		ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
	}
	bh_in_hand Last()
	{
		bh_in_hand in_hand = {};
		(void)bh_channel_in_hand(channel.c, generation - 1, &in_hand);
		return in_hand;
	}
	void ExpectDenied(uint32_t opener, uint32_t owner)
	{
		bh_call call = CallOf(opener, owner);
		ASSERT_EQ(Start(&call), 1) << opener << " " << owner;
		ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
	}
	void ExpectServed(uint32_t opener, uint32_t owner)
	{
		bh_call call = CallOf(opener, owner);
		ASSERT_EQ(Start(&call), 0) << opener << " " << owner;
		Finish(&call);
	}
	static constexpr uint32_t kRoot = 1, kAnn = 1001, kBen = 1002;
	static constexpr uint64_t kMinute = 60000000000;
};

TEST_F(UserTest, ThreeFilesConvictWhoOpensThemOfWhomAndNobodyElse)
{
	for (int file = 0; file < 3; file++) {
		EXPECT_EQ(Last().convicted_owner, 0u) << file;
		ExpectServed(kAnn, kAnn);
		FallOver(kAnn, kAnn);
	}
	EXPECT_EQ(Last().convicted_opener, kAnn);
	EXPECT_EQ(Last().convicted_owner, kAnn);
	EXPECT_EQ(channel.Statistics().poison_known, 3u);
	EXPECT_EQ(channel.Statistics().users_quarantined, 1u);
	ExpectDenied(kAnn, kAnn);
	for (uint32_t opener : {kBen, kRoot, 0u})
		for (uint32_t owner : {kAnn, kBen, kRoot, 0u})
			ExpectServed(opener, owner);
	for (uint32_t owner : {kBen, kRoot})
		ExpectServed(kAnn, owner);
}

// A user can have others open the files. What they lose is what they open of that user's.
TEST_F(UserTest, WhoIsMadeToOpenThemIsDeniedThoseAndNoMore)
{
	for (int file = 0; file < 3; file++)
		FallOver(kBen, kAnn);
	ExpectDenied(kBen, kAnn);
	ExpectServed(kBen, kBen);
	ExpectServed(kBen, kRoot);
	for (int file = 0; file < 3; file++)
		FallOver(kRoot, kAnn);
	ExpectDenied(kRoot, kAnn);
	ExpectServed(kRoot, kRoot);
}

// User namespaces, and file systems that claim what they like.
TEST_F(UserTest, FilesOfManyOwnersAreOfOneOpener)
{
	for (uint32_t owner = 100001; owner < 100004; owner++)
		FallOver(kAnn, owner);
	ExpectDenied(kAnn, 200000);
	ExpectServed(kAnn, kAnn);
	for (uint32_t owner = 2000; owner < 2003; owner++)
		FallOver(kAnn, owner);
	EXPECT_EQ(Last().convicted_opener, kAnn);
	EXPECT_EQ(Last().convicted_owner, BH_USER_ANY);
	for (uint32_t owner : {kAnn, kBen, kRoot})
		ExpectDenied(kAnn, owner);
	ExpectServed(kBen, kAnn);
}

TEST_F(UserTest, WhatIsInHandBesideThemMakesItSixFiles)
{
	bh_call beside;
	for (int file = 0; file < 5; file++)
		FallOver(kAnn, kAnn, &beside);
	ExpectServed(kAnn, kAnn);
	FallOver(kAnn, kAnn, &beside);
	ExpectDenied(kAnn, kAnn);
}

// Over whose calls a host fell is not let through because there was no host then.
TEST_F(UserTest, WhatEndsUnaskedAfterItsUsersFallIsNotAllowed)
{
	FallOver(kAnn, kAnn);
	for (uint32_t end : {BH_END_CRASHED, BH_END_HUNG}) {
		Crash(end);
		for (uint32_t owner : {kAnn, kRoot}) {
			bh_call call = CallOf(kAnn, owner), other = CallOf(kBen, owner);
			ASSERT_EQ(Start(&call), 0) << "it waits for the next host";
			ASSERT_EQ(Start(&other), 0);
			platform.now_ns = call.deadline_ns;
			ASSERT_EQ(Step(&call), 1);
			ExpectPolicy(call, BH_REASON_CROWD, BH_VERDICT_DENY);
			ASSERT_EQ(Step(&other), 1);
			EXPECT_EQ(other.verdict, BH_VERDICT_ALLOW);
		}
		Begin();
	}
	platform.now_ns += kMinute;
	Crash();
	bh_call call = CallOf(kAnn, kAnn);
	ASSERT_EQ(Start(&call), 0);
	platform.now_ns = call.deadline_ns;
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
}

TEST_F(UserTest, AMinuteLaterOneFileMoreIsEnough)
{
	for (int file = 0; file < 3; file++)
		FallOver(kAnn, kAnn);
	platform.now_ns += kMinute - 1;
	ExpectDenied(kAnn, kAnn);
	EXPECT_EQ(channel.Statistics().users_quarantined, 1u);
	platform.now_ns += 1;
	ExpectServed(kAnn, kAnn);
	EXPECT_EQ(channel.Statistics().users_quarantined, 0u);
	FallOver(kAnn, kAnn);
	EXPECT_EQ(Last().convicted_owner, kAnn);
	ExpectDenied(kAnn, kAnn);
	platform.now_ns += 10 * kMinute;
	EXPECT_TRUE(bh_shim_suspects_users(&shim));
	ExpectServed(kAnn, kAnn);
	EXPECT_FALSE(bh_shim_suspects_users(&shim)) << "forgotten";
	FallOver(kAnn, kAnn);
	ExpectServed(kAnn, kAnn);
}

TEST_F(UserTest, FallsThatAreAMinuteApartAddUpToNothing)
{
	for (int file = 0; file < 20; file++) {
		FallOver(kAnn, kAnn);
		platform.now_ns += kMinute;
	}
	ExpectServed(kAnn, kAnn);
}

TEST_F(UserTest, WhatTheMachineItselfDoesConvictsNothing)
{
	for (uint32_t opener : {kRoot, 0u})
		for (uint32_t owner : {kRoot, 0u}) {
			for (int file = 0; file < 10; file++)
				FallOver(opener, owner);
			ExpectServed(opener, owner);
		}
}

// A file may make a driver answer nonsense: that is a fall like a crash, over that file alone.
TEST_F(UserTest, AnAnswerThatBreaksTheProtocolIsOfItsCall)
{
	for (int file = 0; file < 3; file++) {
		bh_call call = CallOf(kAnn, kAnn);
		bh_call beside = CallOf(kBen, kBen);
		ASSERT_EQ(Start(&call), 0);
		ASSERT_EQ(Start(&beside), 0);
		for (int fall = 0; fall < 2; fall++) {
			channel.Begin(call.slot);
			channel.Begin(beside.slot);
			channel.Reply(call.slot)->status = 99;
			bh_store_release(&channel.Reply(call.slot)->ticket,
					 channel.Call(call.slot)->ticket);
			ASSERT_EQ(Step(&call), fall) << "its own budget is used up";
			Crash(BH_END_HOSTILE);
			EXPECT_THAT(Users(generation), testing::ElementsAre(kAnn));
			Begin();
			for (bh_call *again : {&call, &beside})
				ASSERT_EQ(Step(again), again == &call && fall);
		}
		ExpectPolicy(call, BH_REASON_POISON, BH_VERDICT_DENY);
		Finish(&beside);
	}
	EXPECT_EQ(channel.Statistics().poison_known, 3u);
	ExpectDenied(kAnn, kAnn);
	ExpectServed(kBen, kBen);
}

// Nonsense on its socket is of no call: as after a crash, it may be of each that is in hand.
TEST_F(UserTest, AHostThatIsHostileWithoutAnAnswerFellOverWhatWasInHand)
{
	for (int file = 0; file < 3; file++)
		FallOver(kAnn, kAnn, nullptr, BH_END_HOSTILE);
	ExpectDenied(kAnn, kAnn);
	ExpectServed(kBen, kBen);
}

// A host can fall over a call before the shim knows whose it is.
TEST_F(UserTest, WhoseFallIsOfAnUnknownOpenerIsSuspiciousForThatOwnersFiles)
{
	FallOver(0, kAnn);
	Crash();
	for (uint32_t owner : {kAnn, kBen}) {
		bh_call call = CallOf(kAnn, owner);
		ASSERT_EQ(Start(&call), 0);
		platform.now_ns = call.deadline_ns;
		ASSERT_EQ(Step(&call), 1);
		if (owner == kAnn)
			ExpectPolicy(call, BH_REASON_CROWD, BH_VERDICT_DENY);
		else
			ExpectPolicy(call, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
	}
}

// It has hidden behind more user namespaces than are looked through.
TEST_F(UserTest, WhoseOpenerIsHiddenIsSuspiciousWhileAnybodyIs)
{
	Crash();
	bh_call calm = CallOf(0, kAnn);
	ASSERT_EQ(Start(&calm), 0);
	platform.now_ns = calm.deadline_ns;
	ASSERT_EQ(Step(&calm), 1);
	ExpectPolicy(calm, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
	Begin();
	FallOver(kAnn, kAnn);
	Crash();
	bh_call hidden = CallOf(0, kBen);
	ASSERT_EQ(Start(&hidden), 0);
	platform.now_ns = hidden.deadline_ns;
	ASSERT_EQ(Step(&hidden), 1);
	ExpectPolicy(hidden, BH_REASON_CROWD, BH_VERDICT_DENY);
}

TEST_F(UserTest, OnlyFallsCount)
{
	for (uint32_t end : {BH_END_KILLED, BH_END_STOPPED})
		for (int file = 0; file < 10; file++) {
			bh_call call = CallOf(kAnn, kAnn);
			ASSERT_EQ(Start(&call), 0);
			channel.Begin(call.slot);
			Crash(end);
			EXPECT_THAT(Users(generation), testing::IsEmpty()) << end;
			Begin();
			bh_call_cancel(&call, platform.now_ns);
		}
	ExpectServed(kAnn, kAnn);
	for (int file = 0; file < 6; file++) {
		bh_call call = CallOf(kAnn, kAnn);
		ASSERT_EQ(Start(&call), 0);
		channel.Begin(call.slot);
		Crash(BH_END_HUNG);
		Begin();
		bh_call_cancel(&call, platform.now_ns);
	}
	ExpectDenied(kAnn, kAnn);
}

TEST_F(UserTest, NewContentAndTheOperatorLiftIt)
{
	for (int file = 0; file < 3; file++)
		FallOver(kAnn, kAnn);
	ExpectDenied(kAnn, kAnn);
	bh_channel_forgive(channel.c);
	EXPECT_EQ(channel.Statistics().poison_known, 0u);
	EXPECT_EQ(channel.Statistics().users_quarantined, 0u);
	EXPECT_FALSE(bh_shim_suspects_users(&shim));
	ExpectServed(kAnn, kAnn);
	for (int file = 0; file < 3; file++)
		FallOver(kAnn, kAnn);
	EXPECT_TRUE(bh_shim_suspects_users(&shim));
	ExpectDenied(kAnn, kAnn);
	channel.SetContent(2);
	Crash(BH_END_STOPPED);
	Begin();
	ExpectServed(kAnn, kAnn);
	FallOver(kAnn, kAnn);
	ExpectServed(kAnn, kAnn);
	channel.SetContent(1); // taken back
	Crash(BH_END_STOPPED);
	Begin();
	ExpectDenied(kAnn, kAnn);
}

TEST_F(UserTest, ManyUsersLeaveTheLastOfThemKnown)
{
	for (uint32_t user = 2000; user < 2040; user++) {
		FallOver(user, user);
		platform.now_ns++;
	}
	for (int file = 0; file < 2; file++)
		FallOver(2039, 2039);
	ExpectDenied(2039, 2039);
	ExpectServed(2000, 2000);
}

} // namespace
} // namespace bulkhead
