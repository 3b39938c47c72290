// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include <random>
#include <utility>
#include <vector>

#include "tests/testing/fake_channel.h"
#include "shim/core/internal.h"

namespace bulkhead
{
namespace
{

TEST(Pool, RandomLoansNeverOverlap)
{
	std::mt19937 random(1);
	for (uint32_t chunks : {1u, 63u, 64u, 65u, 200u, 4096u}) {
		std::vector<uint64_t> words(bh_pool_words(chunks));
		bh_pool pool;
		bh_pool_init(&pool, words.data(), chunks);
		std::vector<bool> lent(chunks);
		std::vector<std::pair<uint32_t, uint32_t>> loans;
		for (int i = 0; i < 5000; i++) {
			if (!loans.empty() && random() % 2) {
				std::swap(loans[random() % loans.size()], loans.back());
				const auto [first, count] = loans.back();
				loans.pop_back();
				bh_pool_release(&pool, first, count);
				for (uint32_t j = first; j < first + count; j++)
					lent[j] = false;
				continue;
			}
			const auto count = static_cast<uint32_t>(
				1 + random() % (random() % 8 ? 5 : 150));
			const uint32_t first = bh_pool_acquire(
				&pool, count, static_cast<uint32_t>(random() % 4), 4);
			if (first == BH_CHUNK_NONE)
				continue;
			ASSERT_LE(first + count, chunks);
			for (uint32_t j = first; j < first + count; j++) {
				ASSERT_FALSE(lent[j]);
				lent[j] = true;
			}
			loans.emplace_back(first, count);
		}
		for (const auto &[first, count] : loans)
			bh_pool_release(&pool, first, count);
		// All of it is there again.
		EXPECT_EQ(bh_pool_acquire(&pool, chunks, 0, 1), 0u) << chunks;
		EXPECT_EQ(bh_pool_acquire(&pool, 1, 0, 1), BH_CHUNK_NONE) << chunks;
	}
}

TEST(Pool, NothingFitsAnEmptyPool)
{
	bh_pool pool;
	bh_pool_init(&pool, nullptr, 0);
	EXPECT_EQ(bh_pool_acquire(&pool, 1, 0, 1), BH_CHUNK_NONE);
	EXPECT_EQ(bh_pool_claim(&pool, 0, 1), -1);
}

class PayloadTest : public CoreTest
{
};

TEST_F(PayloadTest, PayloadIsCopiedAndItsRoomComesBack)
{
	channel.BeginGeneration(1);
	const std::vector<char> payload(4 * BH_POOL_CHUNK_BYTES - 1, 'p');
	for (int i = 0; i < 10; i++) {
		bh_call call = NewCall();
		call.payload = payload.data();
		call.payload_bytes = payload.size();
		ASSERT_EQ(Start(&call), 0);
		ASSERT_EQ(call.issues, 1u);
		const bh_call_slot *slot = channel.Call(call.slot);
		EXPECT_TRUE(slot->flags & BH_CALL_HAS_PAYLOAD);
		EXPECT_EQ(slot->payload_bytes, payload.size());
		const char *pool = static_cast<const char *>(channel.call_region.get()) +
				   bh_call_pool_offset(&channel.config.spec.geometry);
		EXPECT_EQ(std::memcmp(pool + slot->payload_offset, payload.data(), payload.size()),
			  0);
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
	}
}

TEST_F(PayloadTest, AFullPoolHoldsAndWhatNeverFitsDoesNot)
{
	channel.BeginGeneration(1);
	const std::vector<char> payload(6 * BH_POOL_CHUNK_BYTES, 'p');
	bh_call holder = NewCall(), waiter = NewCall(), never = NewCall();
	for (bh_call *call : {&holder, &waiter, &never})
		call->payload = payload.data();
	holder.payload_bytes = waiter.payload_bytes = 3 * BH_POOL_CHUNK_BYTES;
	Start(&holder);
	ASSERT_EQ(Start(&waiter), 0);
	EXPECT_EQ(waiter.issues, 0u);
	EXPECT_TRUE(bh_call_will_sleep(&waiter, &wait)); // announced: look again
	ASSERT_EQ(Step(&waiter), 0);
	EXPECT_FALSE(bh_call_will_sleep(&waiter, &wait));
	bh_wait sleeps_on = wait;
	channel.Answer(holder.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&holder), 1);
	EXPECT_TRUE(platform.Woke(sleeps_on.word));
	EXPECT_NE(*sleeps_on.word, sleeps_on.expected);
	bh_call_awake(&waiter);
	ASSERT_EQ(Step(&waiter), 0);
	EXPECT_EQ(waiter.issues, 1u);

	for (size_t bytes : {size_t{5 * BH_POOL_CHUNK_BYTES}, ~size_t{0}}) {
		never.payload_bytes = bytes;
		ASSERT_EQ(Start(&never), 1);
		ExpectPolicy(never, BH_REASON_FULL, BH_VERDICT_ALLOW);
	}
}

TEST_F(PayloadTest, AnswersBeyondTheLineAreCopiedToTheCaller)
{
	channel.BeginGeneration(1);
	std::vector<char> room(5000);
	bh_call call = NewCall();
	call.reply_payload = room.data();
	call.reply_capacity = room.size();
	Start(&call);
	const bh_call_slot *slot = channel.Call(call.slot);
	EXPECT_EQ(slot->reply_capacity, room.size());
	char *pool = static_cast<char *>(channel.reply_region.get()) +
		     bh_reply_pool_offset(&channel.config.spec.geometry);
	std::memset(pool + slot->reply_offset, 'r', 4999);
	channel.Reply(call.slot)->payload_bytes = 4999;
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.reply_payload_bytes, 4999u);
	EXPECT_EQ(room[4998], 'r');
	EXPECT_EQ(room[4999], 0);
}

} // namespace
} // namespace bulkhead
