// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Which call is held to account for a dead host, and how suspects are told from bystanders.
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
		for (uint32_t worker = 0; worker < BH_WORKERS_MAX; worker++)
			channel.Idle(worker);
	}
	void Begin()
	{
		ASSERT_EQ(bh_channel_begin_generation(channel.c, ++generation), 0);
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
	channel.Begin(0, poison.slot);
	Crash();
	EXPECT_EQ(Step(&poison), 0);
	EXPECT_EQ(Step(&innocent), 0);
	EXPECT_EQ(poison.crashes, 1u);
	EXPECT_EQ(innocent.crashes, 0u);
	Begin();
	Step(&poison);
	Step(&innocent);
	channel.Begin(1, poison.slot);
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

TEST_F(BlameTest, SuspectsGoOneAtATimeBesideTheOthers)
{
	bh_call guilty = NewCall(1), bystander = NewCall(2), fresh = NewCall(3);
	Begin();
	Start(&bystander);
	Start(&guilty);
	channel.Begin(0, bystander.slot);
	channel.Begin(1, guilty.slot);
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
	channel.Begin(0, guilty.slot);
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
	channel.Begin(0, first.slot);
	channel.Begin(1, second.slot);
	Crash();
	Step(&first);
	Step(&second);
	Begin();
	Step(&first);
	ASSERT_EQ(Step(&second), 0);
	platform.now_ns = second.deadline_ns;
	ASSERT_EQ(Step(&second), 1);
	ExpectPolicy(second, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
	Finish(&first);
}

TEST_F(BlameTest, ASuspectThatEndedInTheHostStillHoldsTheSeat)
{
	bh_call overdue = NewCall(1), next = NewCall(2);
	next.deadline_ns += 1'000'000'000;
	Begin();
	Start(&overdue);
	Start(&next);
	channel.Begin(0, overdue.slot);
	channel.Begin(1, next.slot);
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
		channel.Begin(0, call.slot);
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
			channel.Begin(0, call.slot);
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
	for (uint32_t worker = 0; worker < BH_WORKERS_MAX; worker++) {
		channel.Worker(worker)->slot = 0xffffffff;
		channel.Worker(worker)->phase = 0xffffffff;
		bh_store_release(&channel.Worker(worker)->ticket, call.ticket + 1 + worker);
	}
	ASSERT_EQ(bh_channel_end_generation(channel.c, generation, BH_END_CRASHED), 0);
	ASSERT_EQ(Step(&call), 0);
	EXPECT_EQ(call.crashes, 0u);
}

} // namespace
} // namespace bulkhead
