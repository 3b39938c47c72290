// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include <cerrno>
#include "shim/core/reply.h"

#include <cstring>

#include "gtest/gtest.h"

namespace bulkhead
{
namespace
{

bh_reply_copy Reply(uint32_t verdict, uint32_t cacheability, uint32_t error = 0)
{
	const bh_verdict_reply bytes = {verdict, static_cast<uint16_t>(cacheability),
					static_cast<uint16_t>(error)};
	bh_reply_copy copy{};
	copy.status = BH_REPLY_DONE;
	copy.reply_bytes = sizeof(bytes);
	std::memcpy(copy.reply, &bytes, sizeof(bytes));
	return copy;
}

TEST(Reply, EveryFieldIsJudged)
{
	const bh_reply_facts facts = {BH_CALLBACK_FILE_OPEN, 0};
	for (uint32_t verdict = 0; verdict < 5; verdict++) {
		for (uint32_t cacheability = 0; cacheability < 4; cacheability++) {
			const bh_reply_copy copy = Reply(verdict, cacheability);
			uint32_t expected = BH_VIOLATION_NONE;
			if (verdict != BH_VERDICT_ALLOW && verdict != BH_VERDICT_DENY)
				expected = BH_VIOLATION_VERDICT;
			else if (cacheability > BH_CACHE_OBJECT)
				expected = BH_VIOLATION_CACHEABILITY;
			EXPECT_EQ(bh_reply_validate(&copy, &facts), expected);
		}
	}
	for (uint32_t status = 0; status < 300; status++) {
		bh_reply_copy copy = Reply(BH_VERDICT_ALLOW, BH_CACHE_NOT);
		copy.status = status;
		const bool known = status == BH_REPLY_DONE || status == BH_REPLY_DECLINED;
		EXPECT_EQ(bh_reply_validate(&copy, &facts) == BH_VIOLATION_NONE, known) << status;
	}
	for (uint32_t bytes = 0; bytes < 65536; bytes++) {
		bh_reply_copy copy = Reply(BH_VERDICT_ALLOW, BH_CACHE_NOT);
		copy.reply_bytes = static_cast<uint16_t>(bytes);
		EXPECT_EQ(bh_reply_validate(&copy, &facts) == BH_VIOLATION_NONE,
			  bytes >= sizeof(bh_verdict_reply) && bytes <= BH_INLINE_BYTES)
			<< bytes << ": behind the verdict may stand a reason";
	}
}

// An errno goes with a denial alone, and only one that a caller may see: the kernel takes ECHILD
// and ESTALE for a reason to ask again.
TEST(Reply, OnlyADenialHasAnErrnoAndOnlyOneThatACallerMaySee)
{
	const bh_reply_facts facts = {BH_CALLBACK_FILE_OPEN, 0};
	for (uint32_t error = 0; error < 65536; error++) {
		bh_reply_copy copy = Reply(BH_VERDICT_DENY, BH_CACHE_NOT, error);
		const bool legal = error <= EHWPOISON && error != ECHILD && error != ESTALE;
		EXPECT_EQ(bh_reply_validate(&copy, &facts),
			  legal ? uint32_t{BH_VIOLATION_NONE} : uint32_t{BH_VIOLATION_ERROR})
			<< error;
		copy = Reply(BH_VERDICT_ALLOW, BH_CACHE_NOT, error);
		EXPECT_EQ(bh_reply_validate(&copy, &facts),
			  error == 0 ? uint32_t{BH_VIOLATION_NONE} : uint32_t{BH_VIOLATION_ERROR})
			<< error;
	}
}

TEST(Reply, PayloadStaysInTheRoomThatWasLent)
{
	const bh_reply_facts facts = {BH_CALLBACK_FILE_OPEN, 4096};
	bh_reply_copy copy = Reply(BH_VERDICT_ALLOW, BH_CACHE_NOT);
	copy.payload_bytes = 4096;
	EXPECT_EQ(bh_reply_validate(&copy, &facts), uint32_t{BH_VIOLATION_NONE});
	copy.payload_bytes = 4097;
	EXPECT_EQ(bh_reply_validate(&copy, &facts), uint32_t{BH_VIOLATION_PAYLOAD_BYTES});
	copy.payload_bytes = ~uint64_t{0};
	EXPECT_EQ(bh_reply_validate(&copy, &facts), uint32_t{BH_VIOLATION_PAYLOAD_BYTES});
}

TEST(Reply, TheCopyIsTheLine)
{
	bh_reply_slot slot{};
	slot.ticket = 9;
	slot.status = 1;
	slot.reply_bytes = 48;
	for (uint8_t i = 0; i < BH_INLINE_BYTES; i++)
		slot.reply[i] = i;
	slot.payload_bytes = 77;
	bh_reply_facts facts = {BH_CALLBACK_FILE_OPEN, 100};
	bh_reply_copy copy;
	bh_reply_copy_once(&slot, &facts, &copy);
	EXPECT_EQ(copy.status, 1u);
	EXPECT_EQ(copy.reply_bytes, 48u);
	EXPECT_EQ(std::memcmp(copy.reply, slot.reply, BH_INLINE_BYTES), 0);
	EXPECT_EQ(copy.payload_bytes, 77u);
	facts.reply_capacity = 0;
	bh_reply_copy_once(&slot, &facts, &copy);
	EXPECT_EQ(copy.payload_bytes, 0u);
}

} // namespace
} // namespace bulkhead
