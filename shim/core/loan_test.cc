// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Payloads that are filled in place: what owns their room, and when it comes back.
#include <cstring>

#include "tests/testing/fake_channel.h"
#include "shim/core/internal.h"

namespace bulkhead
{
namespace
{

constexpr uint32_t kChunks = 4; // of TestConfig()'s call pool
constexpr size_t kPoolBytes = size_t{kChunks} * BH_POOL_CHUNK_BYTES;

class CoreLoan : public CoreTest
{
      protected:
	CoreLoan()
	{
		channel.BeginGeneration(1);
	}
	// A call whose payload is all of the pool.
	bh_call Lent(char content = 'x')
	{
		void *loan = bh_loan_take(channel.c, kPoolBytes);
		EXPECT_NE(loan, nullptr);
		if (loan)
			std::memset(loan, content, kPoolBytes);
		bh_call call = NewCall();
		call.payload = loan;
		call.payload_bytes = kPoolBytes;
		return call;
	}
	bool RoomIsBack()
	{
		void *loan = bh_loan_take(channel.c, kPoolBytes);
		if (loan)
			bh_loan_drop(channel.c, loan, kPoolBytes);
		return loan != nullptr;
	}
	static const char *Payload(const FakeChannel &of, const bh_call_slot &slot)
	{
		return static_cast<const char *>(of.call_region.get()) +
		       bh_call_pool_offset(&of.config.spec.geometry) + slot.payload_offset;
	}
};

TEST_F(CoreLoan, IsReadWhereItWasFilled)
{
	bh_call call = Lent();
	const void *loan = call.payload;
	ASSERT_FALSE(Start(&call));
	const bh_call_slot &slot = *channel.Call(call.slot);
	EXPECT_TRUE(slot.flags & BH_CALL_HAS_PAYLOAD);
	EXPECT_EQ(slot.payload_bytes, kPoolBytes);
	EXPECT_EQ(size_t{slot.ahead} * BH_POOL_CHUNK_BYTES, slot.payload_offset);
	EXPECT_EQ(Payload(channel, slot), loan);
	EXPECT_EQ(*Payload(channel, slot), 'x');
	EXPECT_FALSE(RoomIsBack());
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_TRUE(Step(&call));
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, IsRefusedWithoutRoom)
{
	EXPECT_EQ(bh_loan_take(channel.c, 0), nullptr);
	EXPECT_EQ(bh_loan_take(channel.c, kPoolBytes + 1), nullptr);
	EXPECT_EQ(bh_loan_take(channel.c, SIZE_MAX), nullptr);
	void *loan = bh_loan_take(channel.c, BH_POOL_CHUNK_BYTES + 1);
	ASSERT_NE(loan, nullptr);
	EXPECT_EQ(bh_loan_take(channel.c, kPoolBytes - BH_POOL_CHUNK_BYTES), nullptr);
	bh_loan_drop(channel.c, loan, BH_POOL_CHUNK_BYTES + 1);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, WhoWaitsForItsRoomIsWokenWhenItIsDropped)
{
	void *loan = bh_loan_take(channel.c, kPoolBytes);
	bh_call call = NewCall();
	call.payload = "path";
	call.payload_bytes = 4;
	ASSERT_FALSE(Start(&call));
	EXPECT_TRUE(bh_call_will_sleep(&call, &wait)); // announced: look again
	ASSERT_FALSE(Step(&call));
	EXPECT_FALSE(bh_call_will_sleep(&call, &wait));
	bh_loan_drop(channel.c, loan, kPoolBytes);
	EXPECT_TRUE(platform.Woke(wait.word));
	ASSERT_FALSE(Step(&call));
	EXPECT_EQ(call.state, BH_CALL_ISSUED);
}

TEST_F(CoreLoan, GoesToTheNextGeneration)
{
	bh_call call = Lent();
	const void *loan = call.payload;
	ASSERT_FALSE(Start(&call));
	channel.Begin(call.slot);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED), 0);
	ASSERT_FALSE(Step(&call));
	EXPECT_FALSE(RoomIsBack());
	ASSERT_EQ(channel.BeginGeneration(2), 0);
	ASSERT_FALSE(Step(&call));
	EXPECT_EQ(Payload(channel, *channel.Call(call.slot)), loan);
	EXPECT_EQ(call.issues, 2u);
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_TRUE(Step(&call));
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, GoesToTheNextGenerationAfterAViolation)
{
	bh_call call = Lent();
	const void *loan = call.payload;
	ASSERT_FALSE(Start(&call));
	channel.Answer(call.slot, 77);
	ASSERT_FALSE(Step(&call));
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_HOSTILE), 0);
	EXPECT_FALSE(RoomIsBack());
	ASSERT_EQ(channel.BeginGeneration(2), 0);
	ASSERT_FALSE(Step(&call));
	EXPECT_EQ(Payload(channel, *channel.Call(call.slot)), loan);
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_TRUE(Step(&call));
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, StaysWithAHostThatMissedTheDeadline)
{
	bh_call call = Lent();
	ASSERT_FALSE(Start(&call));
	channel.Begin(call.slot);
	platform.now_ns = call.deadline_ns;
	ASSERT_TRUE(Step(&call));
	EXPECT_FALSE(RoomIsBack());
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	bh_slots_reclaim(channel.c);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, StaysWithTheHostOfACancelledCall)
{
	bh_call call = Lent();
	ASSERT_FALSE(Start(&call));
	bh_call_cancel(&call, platform.now_ns);
	EXPECT_FALSE(RoomIsBack());
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_CRASHED), 0);
	bh_slots_reclaim(channel.c);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, ComesBackFromACallThatNoHostGot)
{
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_STOPPED), 0);
	bh_call held = Lent();
	ASSERT_FALSE(Start(&held));
	bh_call_cancel(&held, platform.now_ns);
	EXPECT_TRUE(RoomIsBack());

	bh_call late = Lent();
	ASSERT_FALSE(Start(&late));
	platform.now_ns = late.deadline_ns;
	ASSERT_TRUE(Step(&late));
	EXPECT_TRUE(RoomIsBack());

	bh_call unasked = Lent();
	unasked.callback = BH_CALLBACK_FILE_ACCESS;
	ASSERT_TRUE(Start(&unasked));
	EXPECT_EQ(unasked.outcome, BH_OUTCOME_UNASKED);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, ComesBackFromAHostThatDeclines)
{
	bh_call call = Lent();
	ASSERT_FALSE(Start(&call));
	channel.Decline(call.slot);
	ASSERT_TRUE(Step(&call));
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, IsKeptWhenItCanNotBeIssued)
{
	channel.config.descriptor_callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
	bh_channel_set_wanted(channel.c, channel.Spec());
	platform.send_result = -1;
	bh_call call = Lent();
	call.descriptor = 3;
	ASSERT_FALSE(Start(&call));
	EXPECT_FALSE(RoomIsBack());
	platform.send_result = 0;
	ASSERT_FALSE(Step(&call));
	EXPECT_EQ(*Payload(channel, *channel.Call(call.slot)), 'x');
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_TRUE(Step(&call));
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoan, IsCopiedForTheNextChannel)
{
	bh_channel_config config = TestConfig();
	config.spec.altitude = 0;
	FakeChannel second(&platform, config);
	second.BeginGeneration(1);
	bh_shim_add(&shim, second.c);
	for (FakeChannel *lender : {&channel, &second}) {
		void *loan = bh_loan_take(lender->c, kPoolBytes);
		ASSERT_NE(loan, nullptr);
		std::memset(loan, 'y', kPoolBytes);
		bh_call call = NewCall();
		call.payload = loan;
		call.payload_bytes = kPoolBytes;
		ASSERT_FALSE(Start(&call));
		for (FakeChannel *asked : {&channel, &second}) {
			ASSERT_EQ(call.channel, asked->c);
			const char *payload = Payload(*asked, *asked->Call(call.slot));
			EXPECT_EQ(payload == loan, asked == lender);
			EXPECT_EQ(std::memcmp(payload, loan, kPoolBytes), 0);
			asked->Answer(call.slot, BH_VERDICT_ALLOW);
			Step(&call);
		}
		EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
		for (FakeChannel *asked : {&channel, &second}) {
			void *all = bh_loan_take(asked->c, kPoolBytes);
			ASSERT_NE(all, nullptr);
			bh_loan_drop(asked->c, all, kPoolBytes);
		}
	}
}

// A stack of two, and a call with a loan of the first, whose host never answers.
class CoreLoanOfSlowHost : public CoreLoan
{
      protected:
	CoreLoanOfSlowHost() : second(&platform, Below())
	{
		SetPolicy(BH_REASON_OVERDUE, BH_ACTION_ALLOW, BH_ACTION_ALLOW);
		second.BeginGeneration(1);
		bh_shim_add(&shim, second.c);
	}
	static bh_channel_config Below()
	{
		bh_channel_config config = TestConfig();
		config.spec.altitude = 0;
		return config;
	}
	bh_call Lent(size_t bytes)
	{
		bh_call call = NewCall();
		call.payload = bh_loan_take(channel.c, bytes);
		call.payload_bytes = bytes;
		std::memset(const_cast<void *>(call.payload), 'z', bytes);
		return call;
	}
	// To the end of the first host's time.
	int Miss(bh_call *call)
	{
		EXPECT_FALSE(Start(call));
		channel.Begin(call->slot);
		platform.now_ns = wait.until_ns;
		return Step(call);
	}
	FakeChannel second;
};

TEST_F(CoreLoanOfSlowHost, IsCopiedForTheNextOneAndStaysAsItIs)
{
	bh_call call = Lent(kPoolBytes / 2);
	const char *loan = static_cast<const char *>(call.payload);
	ASSERT_FALSE(Miss(&call));
	ASSERT_EQ(call.channel, second.c);
	const bh_call_slot &slot = *second.Call(call.slot);
	ASSERT_EQ(slot.payload_bytes, kPoolBytes / 2);
	EXPECT_EQ(std::memcmp(Payload(second, slot), loan, kPoolBytes / 2), 0);
	// It answers late: what it has read comes back, and what the call has does not.
	channel.Answer(0, BH_VERDICT_ALLOW);
	bh_slots_reclaim(channel.c);
	void *again = bh_loan_take(channel.c, kPoolBytes / 2);
	ASSERT_NE(again, nullptr);
	EXPECT_EQ(again, loan);
	EXPECT_NE(call.payload, loan);
	bh_loan_drop(channel.c, again, kPoolBytes / 2);
	EXPECT_FALSE(RoomIsBack());
	// The second host dies: the copy goes to its next generation.
	second.Begin(call.slot);
	ASSERT_EQ(second.BeginGeneration(2), 0);
	ASSERT_FALSE(Step(&call));
	EXPECT_EQ(*Payload(second, *second.Call(call.slot)), 'z');
	second.Answer(call.slot, BH_VERDICT_DENY);
	ASSERT_TRUE(Step(&call));
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(call.payload, nullptr);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoanOfSlowHost, WithoutRoomForACopyTheNextOneIsFull)
{
	bh_call call = Lent(kPoolBytes);
	ASSERT_TRUE(Miss(&call));
	ExpectPolicy(call, BH_REASON_FULL, BH_VERDICT_ALLOW);
	EXPECT_EQ(call.issues, 1u);
	EXPECT_EQ(call.payload, nullptr);
	EXPECT_EQ(second.Statistics().by_policy[BH_REASON_FULL], 1u);
	EXPECT_EQ(second.Statistics().overdue, 0u);
	channel.Answer(0, BH_VERDICT_ALLOW);
	bh_slots_reclaim(channel.c);
	EXPECT_TRUE(RoomIsBack());
}

TEST_F(CoreLoanOfSlowHost, IsNotCopiedForACancelledCall)
{
	bh_call call = Lent(kPoolBytes / 2);
	ASSERT_FALSE(Start(&call));
	bh_call_cancel(&call, platform.now_ns);
	void *rest = bh_loan_take(channel.c, kPoolBytes / 2);
	EXPECT_NE(rest, nullptr);
	bh_loan_drop(channel.c, rest, kPoolBytes / 2);
}

} // namespace
} // namespace bulkhead
