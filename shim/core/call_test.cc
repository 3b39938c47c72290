// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// One call's life, step by step: answers, deadlines, generations, violations.
#include <functional>
#include <string>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

class CallTest : public CoreTest
{
};

TEST_F(CallTest, AnsweredCallCarriesTheVerdictAndFreesItsSlot)
{
	channel.BeginGeneration(1);
	for (uint32_t verdict : {BH_VERDICT_ALLOW, BH_VERDICT_DENY}) {
		bh_call call = NewCall();
		ASSERT_EQ(Start(&call), 0);
		EXPECT_EQ(call.slot, 0u);
		EXPECT_EQ(channel.Call(0)->callback, BH_CALLBACK_FILE_OPEN);
		EXPECT_EQ(channel.Call(0)->deadline_ns, call.deadline_ns);
		EXPECT_EQ(channel.Call(0)->call_id, call.call_id);
		EXPECT_NE(call.call_id, 0u);
		EXPECT_EQ(wait.word, &channel.Reply(0)->bell);
		EXPECT_EQ(wait.spin_value, channel.Call(0)->ticket);
		channel.Answer(0, verdict);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
		EXPECT_EQ(call.verdict, verdict);
		EXPECT_EQ(call.issues, 1u);
		EXPECT_EQ(call.ended_ns, platform.now_ns);
		// It has ended: a second answer or another step changes nothing.
		channel.Answer(0, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.verdict, verdict);
	}
	const bh_statistics statistics = channel.Statistics();
	EXPECT_EQ(statistics.calls, 2u);
	EXPECT_EQ(statistics.answered, 2u);
	EXPECT_EQ(statistics.denied, 1u);
	EXPECT_EQ(statistics.in_flight, 0u);
	EXPECT_EQ(statistics.generation, 1u);
}

TEST_F(CallTest, TicketsNeverRepeatInASlot)
{
	channel.BeginGeneration(3);
	uint64_t previous = 0;
	for (int i = 0; i < 100; i++) {
		bh_call call = NewCall();
		Start(&call);
		EXPECT_GT(channel.Call(0)->ticket, previous);
		EXPECT_EQ(bh_ticket_generation(channel.Call(0)->ticket), 3u);
		previous = channel.Call(0)->ticket;
		channel.Answer(0, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
	}
}

TEST_F(CallTest, StaleAndForgedTicketsAreNoAnswers)
{
	channel.BeginGeneration(2);
	bh_call call = NewCall();
	Start(&call);
	const uint64_t ticket = channel.Call(0)->ticket;
	for (uint64_t forged : {ticket - 1, ticket + 1, uint64_t{0}, uint64_t{bh_ticket_make(1, 1)},
				uint64_t{bh_ticket_make(3, 1)}}) {
		channel.AnswerTicket(0, forged, BH_VERDICT_DENY, BH_CACHE_NOT);
		EXPECT_EQ(Step(&call), 0) << forged;
	}
	// Nor is the right ticket in another slot.
	channel.AnswerTicket(1, ticket, BH_VERDICT_DENY, BH_CACHE_NOT);
	EXPECT_EQ(Step(&call), 0);
	channel.Answer(0, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_ALLOW);
}

// Tickets can be foretold: the generation's number, and one more than the slot's last count.
TEST_F(CallTest, ADeadHostAnswersNoCallOfTheNextGeneration)
{
	channel.BeginGeneration(1);
	for (uint32_t slot = 0; slot < 4; slot++)
		channel.AnswerTicket(slot, bh_ticket_make(2, 1), BH_VERDICT_ALLOW, BH_CACHE_NOT);
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	channel.BeginGeneration(2);
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	ASSERT_EQ(call.ticket, bh_ticket_make(2, 1)) << "what the dead host foretold";
	EXPECT_EQ(Step(&call), 0);
	channel.Answer(call.slot, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
}

TEST_F(CallTest, AnAnswerOfADeadHostToItsOwnCallCounts)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	channel.Answer(call.slot, BH_VERDICT_DENY);
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	channel.BeginGeneration(2);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(call.issues, 1u);
}

TEST_F(CallTest, WhatAWorkerHasAnsweredDoesNotKeepItBusy)
{
	channel.BeginGeneration(1);
	bh_call first = NewCall();
	Start(&first);
	channel.Begin(first.slot); // and its slot keeps that, as a real host's does
	channel.Answer(first.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&first), 1);

	bh_call next = NewCall();
	Start(&next);
	platform.now_ns = next.deadline_ns;
	ASSERT_EQ(Step(&next), 1);
	ExpectPolicy(next, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

TEST_F(CallTest, ACallThatOnlyWaitedForItsTurnIsNotHeldAgainstTheHost)
{
	channel.BeginGeneration(1);
	bh_call slow = NewCall(), queued = NewCall();
	slow.deadline_ns += 1'000'000'000;
	Start(&slow);
	Start(&queued);
	channel.Begin(slow.slot);
	platform.now_ns = queued.deadline_ns;
	ASSERT_EQ(Step(&queued), 1);
	ExpectPolicy(queued, BH_REASON_FULL, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
	// The one that a worker has is.
	platform.now_ns = slow.deadline_ns;
	ASSERT_EQ(Step(&slow), 1);
	ExpectPolicy(slow, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

class HangTest : public CallTest
{
      protected:
	static constexpr uint64_t kMs = 1'000'000, kDeadline = 1000 * kMs;
	HangTest()
	{
		channel.BeginGeneration(1);
	}
	bh_call Call(uint64_t inode = 7)
	{
		return FileCall(inode, platform.now_ns + kDeadline);
	}
	void StepAt(bh_call *call, uint64_t now_ns, int ended)
	{
		platform.now_ns = now_ns;
		ASSERT_EQ(Step(call), ended);
	}
	uint64_t began_ns = platform.now_ns;
};

TEST_F(HangTest, ACallThatComesLateToTheDriverIsNoHang)
{
	bh_call busy[4];
	for (bh_call &call : busy) {
		call = Call();
		Start(&call);
		channel.Begin(call.slot);
	}
	bh_call late = Call(8);
	ASSERT_EQ(Start(&late), 0);
	ASSERT_EQ(late.issues, 0u) << "no slot";
	platform.now_ns = late.deadline_ns - 5 * kMs;
	for (bh_call &call : busy) {
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
	}
	ASSERT_EQ(Step(&late), 0);
	ASSERT_EQ(late.issues, 1u);
	channel.Begin(late.slot);
	StepAt(&late, late.deadline_ns, 1);
	ExpectPolicy(late, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
	EXPECT_EQ(channel.Statistics().overdue, 1u);

	// It is still in hand when it has been there for as long as a call may take.
	bh_call next = Call();
	Start(&next);
	StepAt(&next, next.deadline_ns, 1);
	ExpectPolicy(next, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

TEST_F(HangTest, NorIsOneThatIsIssuedAgainLate)
{
	bh_call call = Call();
	Start(&call);
	platform.now_ns = call.deadline_ns - 5 * kMs;
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_KILLED), 0);
	channel.BeginGeneration(2);
	ASSERT_EQ(Step(&call), 0);
	channel.Begin(call.slot);
	StepAt(&call, call.deadline_ns, 1);
	ExpectPolicy(call, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
}

// The host moves `begun` from call to call, so that one is always in hand, and none for long.
TEST_F(HangTest, AHostThatOnlySaysThatItIsBusyHangs)
{
	bh_call calls[3];
	for (bh_call &call : calls) {
		call = Call();
		Start(&call);
		platform.now_ns += 100 * kMs;
	}
	channel.Begin(calls[2].slot);
	StepAt(&calls[0], calls[0].deadline_ns, 1);
	ExpectPolicy(calls[0], BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

// It answers one call now and then, and keeps the driver's only worker for another.
TEST_F(HangTest, AHostThatAnswersOthersHangsWhenOneIsInHandForTooLong)
{
	bh_call stuck = Call(), other = Call(8);
	Start(&stuck);
	channel.Begin(stuck.slot);
	StepAt(&stuck, began_ns + 900 * kMs, 0);
	Start(&other);
	channel.Answer(other.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&other), 1);
	StepAt(&stuck, stuck.deadline_ns, 1);
	ExpectPolicy(stuck, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u) << "it may have come to the driver just now";
	for (int i = 0; i < 9; i++) {
		bh_call next = Call(8);
		Start(&next);
		platform.now_ns += 100 * kMs;
		channel.Answer(next.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&next), 1);
	}
	bh_call last = Call(9);
	Start(&last);
	StepAt(&last, last.deadline_ns, 1);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

// Two workers, each call a fifth of the deadline, and all are issued at once: the last ones come to
// the driver when their time is nearly over, or is over.
TEST_F(HangTest, AQueueInTheHostIsNoHang)
{
	bh_call calls[4];
	for (bh_call &call : calls) {
		call = Call();
		Start(&call);
	}
	channel.Begin(calls[0].slot);
	for (int i = 0; i < 2; i++) {
		platform.now_ns += 400 * kMs;
		channel.Answer(calls[i].slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&calls[i]), 1);
		channel.Begin(calls[i + 1].slot);
	}
	StepAt(&calls[2], calls[2].deadline_ns, 1);
	StepAt(&calls[3], calls[3].deadline_ns, 1);
	ExpectPolicy(calls[2], BH_REASON_OVERDUE, BH_VERDICT_DENY);
	ExpectPolicy(calls[3], BH_REASON_FULL, BH_VERDICT_ALLOW);
	platform.now_ns += 200 * kMs;
	channel.Answer(calls[2].slot, BH_VERDICT_ALLOW); // late
	channel.Begin(calls[3].slot);
	bh_call next = Call();
	Start(&next);
	platform.now_ns += 400 * kMs;
	channel.Answer(calls[3].slot, BH_VERDICT_ALLOW); // and so on
	channel.Begin(next.slot);
	StepAt(&next, next.deadline_ns, 1);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
}

TEST_F(HangTest, AHostThatAnswersOthersDoesNotHangForOneThatWaits)
{
	bh_call waits = Call(), other = Call(8);
	Start(&waits);
	platform.now_ns += 200 * kMs;
	Start(&other);
	channel.Answer(other.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&other), 1);
	StepAt(&waits, waits.deadline_ns, 1);
	ExpectPolicy(waits, BH_REASON_FULL, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
	EXPECT_EQ(channel.Statistics().overdue, 0u);

	// It has answered nothing since: now it does.
	bh_call silent = Call(9);
	Start(&silent);
	StepAt(&silent, silent.deadline_ns, 1);
	ExpectPolicy(silent, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

// All slots are taken when it stops answering, by calls that it could have answered until then.
TEST_F(HangTest, AHostThatStopsWithAllSlotsTakenHangsForThoseThatWaitForOne)
{
	bh_call taken[4], answered = Call(8);
	for (bh_call &call : taken) {
		call = Call();
		call.deadline_ns -= 500 * kMs;
	}
	for (int i = 0; i < 3; i++)
		Start(&taken[i]);
	platform.now_ns += 100 * kMs;
	Start(&answered);
	channel.Answer(answered.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&answered), 1);
	Start(&taken[3]);
	for (bh_call &call : taken)
		StepAt(&call, taken[0].deadline_ns, 1);
	ASSERT_EQ(platform.Count(BH_EVENT_HUNG), 0u) << "it has answered since";
	bh_call waits = Call(9);
	ASSERT_EQ(Start(&waits), 0);
	ASSERT_EQ(waits.issues, 0u);
	StepAt(&waits, waits.deadline_ns, 1);
	ExpectPolicy(waits, BH_REASON_FULL, BH_VERDICT_ALLOW);
	ASSERT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
	EXPECT_EQ(platform.events[0].generation, 1u);
	EXPECT_NEAR(platform.events[0].detail, 1000u, 5u) << "a second, in ms";
}

TEST_F(HangTest, ALaneThatHasNotAnsweredForWeeksHidesNoHang)
{
	bh_call answered = Call();
	Start(&answered);
	channel.Answer(answered.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&answered), 1);
	for (uint64_t days : {20u, 27u, 40u, 51u, 53u}) {
		platform.now_ns = began_ns + days * 86'400'000 * kMs;
		bh_call silent = Call();
		ASSERT_EQ(Start(&silent), 0);
		const size_t before = platform.Count(BH_EVENT_HUNG);
		StepAt(&silent, silent.deadline_ns, 1);
		EXPECT_EQ(platform.Count(BH_EVENT_HUNG), before + 1) << days;
		channel.Answer(silent.slot, BH_VERDICT_ALLOW);
		channel.Statistics(); // looks for late answers
	}
}

TEST_F(HangTest, AnAnswerToDeclineIsAnAnswer)
{
	bh_call waits = Call(), declined = Call(8);
	Start(&waits);
	platform.now_ns += 200 * kMs;
	Start(&declined);
	channel.Decline(declined.slot);
	ASSERT_EQ(Step(&declined), 1);
	StepAt(&waits, waits.deadline_ns, 1);
	ExpectPolicy(waits, BH_REASON_FULL, BH_VERDICT_ALLOW);
}

TEST_F(HangTest, CallsWithoutADeadlineAreNotHeldAgainstTheHostByAnotherThatWaits)
{
	bh_call forever[4];
	for (bh_call &call : forever) {
		call = FileCall(7, BH_NO_DEADLINE);
		Start(&call);
		channel.Begin(call.slot);
	}
	bh_call waits = Call(8);
	ASSERT_EQ(Start(&waits), 0);
	StepAt(&waits, waits.deadline_ns, 1);
	ExpectPolicy(waits, BH_REASON_FULL, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
}

TEST_F(HangTest, ACallWithoutADeadlineKeepsNoHostFromConviction)
{
	bh_call forever = FileCall(7, BH_NO_DEADLINE), call = Call(8);
	Start(&forever);
	Start(&call);
	StepAt(&call, call.deadline_ns, 1);
	ExpectPolicy(call, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
}

TEST_F(HangTest, ACallOfADeadGenerationBlamesNoLaterOne)
{
	bh_call old = Call();
	Start(&old);
	channel.Begin(old.slot);
	platform.now_ns += 900 * kMs;
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED), 0);
	channel.BeginGeneration(2);
	ASSERT_EQ(Step(&old), 0);
	StepAt(&old, old.deadline_ns, 1);
	// In hand of the one that crashed.
	ExpectPolicy(old, BH_REASON_OVERDUE, BH_VERDICT_DENY);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 0u);
}

// What a crashed host had in hand waits for the next, and is suspicious when none comes.
TEST_F(HangTest, ACallThatCrashedItsHostIsNotAllowedForWantOfAnother)
{
	bh_call in_hand = Call(), waits = Call(8);
	Start(&in_hand);
	Start(&waits);
	channel.Begin(in_hand.slot);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED), 0);
	SetPolicy(BH_REASON_CRASHED, BH_ACTION_ALLOW, BH_ACTION_ALLOW);
	ASSERT_EQ(Step(&in_hand), 0) << "it does not go through at once, as the other does";
	ASSERT_EQ(Step(&waits), 1);
	ExpectPolicy(waits, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
	StepAt(&in_hand, in_hand.deadline_ns, 1);
	ExpectPolicy(in_hand, BH_REASON_OVERDUE, BH_VERDICT_DENY);
}

TEST_F(HangTest, NorIsOneWhoseHostWasKilled)
{
	bh_call in_hand = Call();
	Start(&in_hand);
	channel.Begin(in_hand.slot);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_KILLED), 0);
	StepAt(&in_hand, in_hand.deadline_ns, 1);
	ExpectPolicy(in_hand, BH_REASON_OVERDUE, BH_VERDICT_DENY);

	// An operator takes the driver away.
	channel.BeginGeneration(2);
	bh_call let_go = Call();
	Start(&let_go);
	channel.Begin(let_go.slot);
	bh_channel_set_quarantined(channel.c, 1);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 2, BH_END_KILLED), 0);
	ASSERT_EQ(Step(&let_go), 1);
	ExpectPolicy(let_go, BH_REASON_ABSENT, BH_VERDICT_ALLOW);
}

TEST_F(HangTest, NorForTheDriversQuarantine)
{
	bh_call in_hand = Call();
	Start(&in_hand);
	channel.Begin(in_hand.slot);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED), 0);
	bh_channel_set_quarantined(channel.c, 1);
	ASSERT_EQ(Step(&in_hand), 1);
	ExpectPolicy(in_hand, BH_REASON_OVERDUE, BH_VERDICT_DENY);
}

TEST_F(CallTest, AnswerInTheLineCountsEvenAtTheDeadline)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	Start(&call);
	channel.Answer(0, BH_VERDICT_DENY);
	platform.now_ns = call.deadline_ns + 5;
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
}

TEST_F(CallTest, OverdueCallEndsAndItsLateAnswerFreesTheSlot)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	Start(&call);
	platform.now_ns = call.deadline_ns - 1;
	ASSERT_EQ(Step(&call), 0);
	platform.now_ns = call.deadline_ns;
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.Count(BH_EVENT_HUNG), 1u);
	EXPECT_EQ(platform.events[0].call_id, call.call_id);
	EXPECT_EQ(bh_channel_in_flight(channel.c), 1u);

	// The slot is not used again; the others are, until there is none.
	for (uint32_t expected : {1u, 2u, 3u}) {
		bh_call other = NewCall();
		Start(&other);
		EXPECT_EQ(other.slot, expected);
		platform.now_ns = other.deadline_ns;
		Step(&other);
	}
	bh_call full = NewCall();
	full.deadline_ns += 1'000'000'000;
	ASSERT_EQ(Start(&full), 0);
	EXPECT_EQ(full.issues, 0u);
	EXPECT_LE(wait.until_ns, platform.now_ns + 1'000'000); // its return is not announced

	channel.Answer(0, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&full), 0);
	EXPECT_EQ(full.slot, 0u);
	EXPECT_EQ(full.issues, 1u);
	EXPECT_EQ(channel.Statistics().late, 1u);
	channel.Answer(0, BH_VERDICT_ALLOW);
	EXPECT_EQ(Step(&full), 1);
	EXPECT_EQ(full.verdict, BH_VERDICT_ALLOW);
	EXPECT_EQ(channel.Statistics().overdue, 4u);
}

TEST_F(CallTest, AbandonedSlotComesBackWithTheNextGeneration)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	Start(&call);
	platform.now_ns = call.deadline_ns;
	Step(&call);
	bh_channel_end_generation(channel.c, 1, BH_END_HUNG);
	channel.BeginGeneration(2);
	call = NewCall();
	Start(&call);
	EXPECT_EQ(call.slot, 0u);
	EXPECT_EQ(channel.Statistics().late, 0u);
}

TEST_F(CallTest, FullQueueEndsByItsOwnReason)
{
	channel.BeginGeneration(1);
	bh_call busy[4];
	for (bh_call &call : busy) {
		call = NewCall();
		Start(&call);
	}
	bh_call full = NewCall();
	ASSERT_EQ(Start(&full), 0);
	platform.now_ns = full.deadline_ns;
	ASSERT_EQ(Step(&full), 1);
	ExpectPolicy(full, BH_REASON_FULL, BH_VERDICT_ALLOW);

	SetPolicy(BH_REASON_FULL, BH_ACTION_DENY, BH_ACTION_ALLOW);
	full = NewCall();
	ASSERT_EQ(Start(&full), 1);
	ExpectPolicy(full, BH_REASON_FULL, BH_VERDICT_DENY);
}

TEST_F(CallTest, AbsentHoldsUntilAHostServes)
{
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	EXPECT_FALSE(wait.shared);
	EXPECT_EQ(wait.until_ns, call.deadline_ns);
	EXPECT_FALSE(bh_call_will_sleep(&call, &wait));
	channel.BeginGeneration(1);
	EXPECT_TRUE(platform.Woke(wait.word));
	EXPECT_NE(*wait.word, wait.expected);
	bh_call_awake(&call);
	ASSERT_EQ(Step(&call), 0);
	channel.Answer(0, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
}

TEST_F(CallTest, ReasonFollowsHowTheLastGenerationEnded)
{
	struct Case {
		uint32_t end, reason;
	};
	const Case cases[] = {{BH_END_STOPPED, BH_REASON_ABSENT},
			      {BH_END_CRASHED, BH_REASON_CRASHED},
			      {BH_END_HUNG, BH_REASON_HUNG},
			      {BH_END_KILLED, BH_REASON_CRASHED},
			      {BH_END_HOSTILE, BH_REASON_CRASHED}};
	uint32_t generation = 0;
	for (const Case &each : cases) {
		SCOPED_TRACE(each.end);
		channel.BeginGeneration(++generation);
		bh_call call = NewCall();
		Start(&call);
		ASSERT_EQ(bh_channel_end_generation(channel.c, generation, each.end), 0);
		ASSERT_EQ(Step(&call), 0);
		platform.now_ns = call.deadline_ns;
		ASSERT_EQ(Step(&call), 1);
		ExpectPolicy(call, each.reason, BH_VERDICT_ALLOW);
	}
	// A driver in quarantine is absent, and there is nothing to hold for.
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	bh_channel_set_quarantined(channel.c, 1);
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_ABSENT, BH_VERDICT_ALLOW);
}

TEST_F(CallTest, PolicyChangeReachesThoseWhoWait)
{
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	const uint32_t *word = wait.word;
	SetPolicy(BH_REASON_ABSENT, BH_ACTION_DENY, BH_ACTION_DENY);
	EXPECT_TRUE(platform.Woke(word));
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_ABSENT, BH_VERDICT_DENY);
}

TEST_F(CallTest, WhatADriverDeclinesIsDeniedWithoutHolding)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	Start(&call);
	channel.Decline(0);
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_DECLINED, BH_VERDICT_DENY);
	EXPECT_EQ(bh_channel_in_flight(channel.c), 0u);

	SetPolicy(BH_REASON_DECLINED, BH_ACTION_HOLD, BH_ACTION_ALLOW);
	call = NewCall();
	Start(&call);
	channel.Decline(0);
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_DECLINED, BH_VERDICT_ALLOW);
}

TEST_F(CallTest, AnswerOfADeadHostStaysValid)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	Start(&call);
	channel.Begin(call.slot);
	channel.Answer(0, BH_VERDICT_DENY);
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(call.crashes, 0u);
}

TEST_F(CallTest, UnansweredCallIsReissuedToTheNextGeneration)
{
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	Start(&call);
	const uint64_t id = call.call_id;
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	ASSERT_EQ(Step(&call), 0);
	channel.BeginGeneration(2);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(bh_ticket_generation(channel.Call(call.slot)->ticket), 2u);
	EXPECT_EQ(channel.Call(call.slot)->call_id, id);
	EXPECT_EQ(channel.Call(call.slot)->attempt, 1u);
	EXPECT_TRUE(channel.Call(call.slot)->flags & BH_CALL_REISSUED);
	channel.Answer(call.slot, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.issues, 2u);
	EXPECT_EQ(channel.Statistics().reissued, 1u);
	EXPECT_EQ(channel.Statistics().calls, 1u);
}

TEST_F(CallTest, WhatMustNotRunTwiceIsReissuedOnlyWhenNotBegun)
{
	channel.BeginGeneration(1);
	bh_call begun = NewCall(), unbegun = NewCall();
	begun.reissue = unbegun.reissue = BH_REISSUE_IF_UNBEGUN;
	Start(&begun);
	Start(&unbegun);
	channel.Begin(begun.slot);
	bh_channel_end_generation(channel.c, 1, BH_END_STOPPED);
	channel.BeginGeneration(2);
	ASSERT_EQ(Step(&begun), 1);
	EXPECT_EQ(begun.outcome, BH_OUTCOME_UNKNOWN);
	ASSERT_EQ(Step(&unbegun), 0);
	EXPECT_EQ(unbegun.issues, 2u);
	EXPECT_EQ(channel.Statistics().unknown, 1u);
}

TEST_F(CallTest, GenerationNumbersOnlyGrow)
{
	EXPECT_EQ(channel.BeginGeneration(0), -1);
	EXPECT_EQ(channel.BeginGeneration(5), 0);
	EXPECT_EQ(channel.BeginGeneration(5), -1);
	EXPECT_EQ(channel.BeginGeneration(4), -1);
	EXPECT_EQ(bh_channel_end_generation(channel.c, 4, BH_END_CRASHED), -1);
	EXPECT_EQ(bh_channel_end_generation(channel.c, 5, BH_END_CRASHED), 0);
	EXPECT_EQ(bh_channel_end_generation(channel.c, 5, BH_END_CRASHED), -1);
	EXPECT_EQ(channel.BeginGeneration(5), -1);
	EXPECT_EQ(channel.BeginGeneration(6), 0);
}

TEST_F(CallTest, DrainingHostKeepsItsCallsAndGetsNoOthers)
{
	channel.BeginGeneration(1);
	bh_call before = NewCall(), after = NewCall();
	Start(&before);
	bh_channel_set_draining(channel.c, 1);
	ASSERT_EQ(Start(&after), 0);
	EXPECT_EQ(after.issues, 0u);
	EXPECT_EQ(bh_channel_in_flight(channel.c), 1u);
	channel.Answer(before.slot, BH_VERDICT_DENY);
	EXPECT_EQ(bh_channel_in_flight(channel.c), 0u);
	ASSERT_EQ(Step(&before), 1);
	EXPECT_EQ(before.verdict, BH_VERDICT_DENY);
	channel.BeginGeneration(2); // ends the first by itself
	ASSERT_EQ(Step(&after), 0);
	EXPECT_EQ(after.issues, 1u);
}

TEST_F(CallTest, AHandoverIsNoLackOfAHost)
{
	uint32_t generation = 1;

	for (const uint32_t action : {BH_ACTION_ALLOW, BH_ACTION_DENY}) {
		SetPolicy(BH_REASON_ABSENT, action, action);
		channel.BeginGeneration(generation);
		bh_channel_set_draining(channel.c, 1);
		bh_call call = NewCall();
		EXPECT_EQ(Start(&call), 0);
		bh_channel_end_generation(channel.c, generation++, BH_END_STOPPED);
		EXPECT_EQ(Step(&call), 0);
		channel.BeginGeneration(generation++);
		ASSERT_EQ(Step(&call), 0);
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	}
	// One that no host follows is answered by its deadline, and at once when that is known.
	bh_channel_set_draining(channel.c, 1);
	bh_call late = NewCall(), quarantined = NewCall();
	EXPECT_EQ(Start(&late), 0);
	platform.now_ns = late.deadline_ns;
	ASSERT_EQ(Step(&late), 1);
	ExpectPolicy(late, BH_REASON_ABSENT, BH_VERDICT_DENY);
	bh_channel_set_quarantined(channel.c, 1);
	quarantined.deadline_ns = platform.now_ns + 1'000'000'000;
	ASSERT_EQ(Start(&quarantined), 1);
	ExpectPolicy(quarantined, BH_REASON_ABSENT, BH_VERDICT_DENY);
}

TEST_F(CallTest, ADenialMayCarryAnErrno)
{
	channel.BeginGeneration(1);
	for (const uint32_t error : {0u, 13u, 28u}) {
		bh_call call = NewCall();
		Start(&call);
		channel.Answer(call.slot, BH_VERDICT_DENY, BH_CACHE_NOT, error);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
		EXPECT_EQ(call.error, error);
	}
	// By policy: the default.
	bh_call call = NewCall();
	SetPolicy(BH_REASON_DECLINED, BH_ACTION_DENY, BH_ACTION_DENY);
	Start(&call);
	channel.Decline(call.slot);
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_DECLINED, BH_VERDICT_DENY);
	EXPECT_EQ(call.error, 0u);
}

TEST_F(CallTest, ArgumentsThatFitNoLineGoInALineOfTheirOwn)
{
	channel.BeginGeneration(1);
	for (const int more : {0, 1, BH_MORE_ARGS_BYTES}) {
		const auto bytes = static_cast<uint32_t>(BH_INLINE_BYTES + more);
		bh_call call = NewCall();
		call.args_bytes = bytes;
		for (uint32_t i = 0; i < BH_ARGS_BYTES_MAX; i++)
			call.args[i] = static_cast<uint8_t>(i + bytes);
		std::memset(channel.Call(0)->more_args, 0xee, BH_MORE_ARGS_BYTES);
		Start(&call);
		const bh_call_slot *slot = channel.Call(call.slot);
		EXPECT_EQ(slot->args_bytes, bytes);
		EXPECT_EQ(std::memcmp(slot->args, call.args, BH_INLINE_BYTES), 0);
		if (bytes > BH_INLINE_BYTES) {
			EXPECT_EQ(std::memcmp(slot->more_args, call.args + BH_INLINE_BYTES,
					      BH_MORE_ARGS_BYTES),
				  0);
		} else {
			EXPECT_EQ(slot->more_args[0], 0xee); // a small call does not touch it
		}
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
	}
}

TEST_F(CallTest, AViolationEndsTheHostsServiceAndNotTheCall)
{
	struct Garbage {
		uint32_t violation;
		std::function<void(bh_reply_slot *)> spoil;
	};
	const auto verdict = [](uint32_t value, uint16_t cacheability, uint16_t error = 0) {
		return [=](bh_reply_slot *reply) {
			const bh_verdict_reply bytes = {value, cacheability, error};
			std::memcpy(reply->reply, &bytes, sizeof(bytes));
		};
	};
	const Garbage cases[] = {
		{BH_VIOLATION_STATUS, [](bh_reply_slot *reply) { reply->status = 77; }},
		{BH_VIOLATION_REPLY_BYTES, [](bh_reply_slot *reply) { reply->reply_bytes = 7; }},
		{BH_VIOLATION_VERDICT, verdict(0, BH_CACHE_NOT)},
		{BH_VIOLATION_CACHEABILITY, verdict(BH_VERDICT_ALLOW, 2)},
		{BH_VIOLATION_ERROR, verdict(BH_VERDICT_DENY, BH_CACHE_NOT, 512)},
		{BH_VIOLATION_PAYLOAD_BYTES,
		 [](bh_reply_slot *reply) { reply->payload_bytes = 101; }},
	};
	uint32_t generation = 0;
	for (const Garbage &garbage : cases) {
		SCOPED_TRACE(garbage.violation);
		platform.events.clear();
		channel.BeginGeneration(++generation);
		bh_call call = NewCall(), bystander = NewCall(), next = NewCall();
		char room[100];
		call.reply_capacity = sizeof(room);
		call.reply_payload = room;
		Start(&call);
		Start(&bystander);
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		channel.Reply(call.slot)->payload_bytes = 0;
		garbage.spoil(channel.Reply(call.slot));
		ASSERT_EQ(Step(&call), 0);
		ASSERT_EQ(platform.Count(BH_EVENT_VIOLATION), 1u);
		EXPECT_EQ(platform.events[0].detail, garbage.violation);
		EXPECT_EQ(platform.events[0].generation, generation);
		EXPECT_EQ(call.crashes, 1u);
		// Nothing goes to that host any more; the call waits for another.
		ASSERT_EQ(Start(&next), 0);
		EXPECT_EQ(next.issues, 0u);
		EXPECT_EQ(channel.Statistics().late, 0u);
		bh_channel_end_generation(channel.c, generation, BH_END_HOSTILE);
		channel.BeginGeneration(++generation);
		for (bh_call *each : {&call, &bystander, &next}) {
			ASSERT_EQ(Step(each), 0);
			channel.Reply(each->slot)->payload_bytes = 0;
			channel.Answer(each->slot, BH_VERDICT_ALLOW);
			ASSERT_EQ(Step(each), 1);
			EXPECT_EQ(each->outcome, BH_OUTCOME_ANSWERED);
		}
		bh_channel_end_generation(channel.c, generation, BH_END_STOPPED);
	}
	EXPECT_EQ(channel.Statistics().violations, std::size(cases));
}

// A waiter that came before the slot was abandoned polled for it only when it was told to look.
TEST_F(CallTest, WhoWaitsForRoomHearsOfAnAbandonedSlot)
{
	channel.BeginGeneration(1);
	SetPolicy(BH_REASON_FULL, BH_ACTION_HOLD, BH_ACTION_DENY);
	bh_call issued[4], waiter = NewCall();

	for (bh_call &call : issued) {
		call = NewCall();
		ASSERT_EQ(Start(&call), 0);
	}
	ASSERT_EQ(Start(&waiter), 0);
	ASSERT_NE(bh_call_will_sleep(&waiter, &wait), 0); // it announces itself, and tries again
	ASSERT_EQ(Step(&waiter), 0);
	ASSERT_EQ(bh_call_will_sleep(&waiter, &wait), 0);
	ASSERT_EQ(wait.until_ns, waiter.deadline_ns);
	const uint32_t slept_on = *wait.word;
	platform.wakes.clear();

	bh_call_cancel(&issued[0], platform.now_ns);
	EXPECT_NE(*wait.word, slept_on);
	EXPECT_TRUE(platform.Woke(wait.word));
	for (bh_call &call : issued)
		bh_call_cancel(&call, platform.now_ns);
	bh_call_cancel(&waiter, platform.now_ns);
}

TEST_F(CallTest, CancelEndsACallInEveryState)
{
	bh_call start = NewCall(), host = NewCall();
	bh_call_start(&shim, &start);
	bh_call_cancel(&start, platform.now_ns);
	Start(&host);
	bh_call_cancel(&host, platform.now_ns);
	channel.BeginGeneration(1);
	bh_call issued[4];
	for (bh_call &call : issued) {
		call = NewCall();
		Start(&call);
	}
	bh_call slot = NewCall();
	Start(&slot);
	bh_call_will_sleep(&slot, &wait);
	bh_call_cancel(&slot, platform.now_ns);
	bh_call_cancel(&issued[0], platform.now_ns);
	for (bh_call *call : {&start, &host, &slot, &issued[0]}) {
		EXPECT_EQ(call->outcome, BH_OUTCOME_CANCELLED);
		EXPECT_EQ(call->verdict, BH_VERDICT_DENY);
		EXPECT_EQ(Step(call), 1);
		bh_call_cancel(call, platform.now_ns);
	}
	EXPECT_EQ(channel.Statistics().cancelled, 3u); // `start` had not come to a channel
	// The slot is the host's until that has answered.
	EXPECT_EQ(Start(&slot), 0);
	EXPECT_EQ(slot.issues, 0u);
	channel.Answer(issued[0].slot, BH_VERDICT_ALLOW);
	EXPECT_EQ(Step(&slot), 0);
	EXPECT_EQ(slot.slot, issued[0].slot);
}

TEST_F(CallTest, DescriptorsGoAheadOfTheCallsThatNeedThem)
{
	bh_channel_config config = TestConfig();
	config.descriptor_callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
	FakeChannel other(&platform, config);
	Use(&other);
	other.BeginGeneration(1);
	bh_call open = NewCall();
	open.descriptor = 5;
	Start(&open);
	ASSERT_EQ(platform.sent_tickets.size(), 1u);
	EXPECT_EQ(platform.sent_tickets[0], other.Call(0)->ticket);
	EXPECT_TRUE(other.Call(0)->flags & BH_CALL_HAS_DESCRIPTOR);
	bh_call exec = FileCall(7, platform.now_ns + 1000, BH_CALLBACK_FILE_EXEC);
	exec.descriptor = 5;
	Start(&exec);
	EXPECT_EQ(platform.sent_tickets.size(), 1u);
	EXPECT_FALSE(other.Call(1)->flags & BH_CALL_HAS_DESCRIPTOR);

	platform.send_result = -1; // no room now
	bh_call held = NewCall();
	held.descriptor = 5;
	held.deadline_ns += 1'000'000'000;
	ASSERT_EQ(Start(&held), 0);
	EXPECT_EQ(held.issues, 0u);
	EXPECT_LE(wait.until_ns, platform.now_ns + 1'000'000);
	EXPECT_EQ(bh_channel_in_flight(other.c), 2u);
	platform.send_result = 0;
	ASSERT_EQ(Step(&held), 0);
	EXPECT_EQ(held.issues, 1u);

	platform.send_result = -2;
	bh_call never = NewCall();
	never.descriptor = 5;
	ASSERT_EQ(Start(&never), 1);
	ExpectPolicy(never, BH_REASON_ABSENT, BH_VERDICT_ALLOW);
}

} // namespace
} // namespace bulkhead
