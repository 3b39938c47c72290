// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A new shim takes the regions of one that died, in mid-flight.
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

class AdoptTest : public CoreTest
{
      protected:
	void TakeOver()
	{
		channel.config.adopt++;
		channel.Init(&platform.c);
		Use(&channel);
	}
};

TEST_F(AdoptTest, UnansweredSlotsStayAbandonedUntilAnswered)
{
	channel.BeginGeneration(4);
	bh_call answered = NewCall(), unanswered = NewCall();
	Start(&answered);
	Start(&unanswered);
	const uint64_t old_ticket = channel.Call(0)->ticket;
	channel.Answer(0, BH_VERDICT_ALLOW);
	TakeOver();
	ASSERT_EQ(channel.BeginGeneration(4), 0); // the same host, still alive
	EXPECT_EQ(bh_channel_in_flight(channel.c), 1u);
	std::vector<uint32_t> used;
	bh_call calls[3];
	for (bh_call &call : calls) {
		call = NewCall();
		Start(&call);
		used.push_back(call.slot);
	}
	EXPECT_EQ(used, (std::vector<uint32_t>{0, 2, 3}));
	EXPECT_GT(channel.Call(0)->ticket, old_ticket);
	bh_call last = NewCall();
	ASSERT_EQ(Start(&last), 0);
	EXPECT_EQ(last.issues, 0u);
	channel.Answer(1, BH_VERDICT_ALLOW); // of the dead shim's call: it comes late
	Step(&last);
	EXPECT_EQ(last.slot, 1u);
	EXPECT_EQ(last.issues, 1u);
	EXPECT_EQ(channel.Statistics().late, 1u);
}

TEST_F(AdoptTest, ANewGenerationFreesThem)
{
	channel.BeginGeneration(4);
	bh_call calls[4];
	for (bh_call &call : calls) {
		call = NewCall();
		Start(&call);
	}
	TakeOver();
	EXPECT_EQ(channel.BeginGeneration(3), -1);
	ASSERT_EQ(channel.BeginGeneration(5), 0);
	for (bh_call &call : calls) {
		call = NewCall();
		Start(&call);
		EXPECT_EQ(call.issues, 1u);
	}
}

// A shim that dies between sending a call's file and storing its ticket leaves the file with the
// host. The host knows files by slot and ticket: the next call in the slot must not get that
// ticket.
TEST_F(AdoptTest, ATicketWhoseFileWasSentButNeverStoredIsNotIssuedAgain)
{
	channel.BeginGeneration(4);
	uint64_t lost[2];
	for (uint64_t &ticket : lost) {
		const uint64_t stored = channel.Call(0)->ticket;
		bh_call call = NewCall();
		Start(&call);
		ASSERT_EQ(call.slot, 0u);
		ticket = channel.Call(0)->ticket;
		channel.Call(0)->ticket = stored; // died before the store
		TakeOver();
		ASSERT_EQ(channel.BeginGeneration(4), 0);
	}
	bh_call call = NewCall();
	Start(&call);
	ASSERT_EQ(call.slot, 0u);
	EXPECT_NE(lost[0], lost[1]);
	EXPECT_NE(channel.Call(0)->ticket, lost[0]);
	EXPECT_NE(channel.Call(0)->ticket, lost[1]);
}

// A shim that dies between its two steps of waking a worker leaves it asleep without announcement.
TEST_F(AdoptTest, EveryWorkerIsWoken)
{
	channel.BeginGeneration(4);
	platform.wakes.clear();
	TakeOver();
	for (uint32_t worker = 0; worker < BH_WORKERS_MAX; ++worker)
		EXPECT_TRUE(platform.Woke(&channel.Host()->sleeping[worker])) << worker;
}

TEST_F(AdoptTest, TheSameGenerationBeginsOnlyOnce)
{
	channel.BeginGeneration(4);
	bh_call call = NewCall();
	Start(&call);
	TakeOver();
	ASSERT_EQ(channel.BeginGeneration(4), 0);
	EXPECT_EQ(channel.BeginGeneration(4), -1);
	EXPECT_EQ(bh_channel_end_generation(channel.c, 4, BH_END_CRASHED), 0);
	EXPECT_EQ(channel.BeginGeneration(4), -1);
}

TEST_F(AdoptTest, LentChunksStayLent)
{
	const std::vector<char> payload(3 * BH_POOL_CHUNK_BYTES, 'x');
	channel.BeginGeneration(1);
	bh_call call = NewCall();
	call.payload = payload.data();
	call.payload_bytes = payload.size();
	Start(&call);
	TakeOver();
	channel.BeginGeneration(1);
	bh_call two = NewCall();
	two.payload = payload.data();
	two.payload_bytes = 2 * BH_POOL_CHUNK_BYTES;
	ASSERT_EQ(Start(&two), 0);
	EXPECT_EQ(two.issues, 0u); // of four chunks, one is left
	channel.Answer(0, BH_VERDICT_ALLOW);
	channel.Statistics(); // looks for late answers
	ASSERT_EQ(Step(&two), 0);
	EXPECT_EQ(two.issues, 1u);
}

TEST_F(AdoptTest, NonsenseInTheCallRegionLendsNothing)
{
	struct Nonsense {
		uint64_t offset, bytes;
	};
	const Nonsense cases[] = {{1, 10},
				  {4 * BH_POOL_CHUNK_BYTES, 1},
				  {0, ~uint64_t{0}},
				  {~uint64_t{4095}, 8192},
				  {0, 5 * BH_POOL_CHUNK_BYTES}};
	const std::vector<char> payload(4 * BH_POOL_CHUNK_BYTES, 'x');
	for (const Nonsense &nonsense : cases) {
		FakeChannel other(&platform, TestConfig());
		other.Call(0)->ticket = bh_ticket_make(7, 70);
		other.Call(0)->flags = BH_CALL_HAS_PAYLOAD;
		other.Call(0)->payload_offset = nonsense.offset;
		other.Call(0)->payload_bytes = nonsense.bytes;
		other.Call(0)->reply_offset = nonsense.offset;
		other.Call(0)->reply_capacity = nonsense.bytes;
		other.config.adopt = 1;
		other.Init(&platform.c);
		Use(&other);
		ASSERT_EQ(other.BeginGeneration(7), 0);
		bh_call call = NewCall();
		call.payload = payload.data();
		call.payload_bytes = payload.size();
		ASSERT_EQ(Start(&call), 0);
		EXPECT_EQ(call.issues, 1u); // the whole pool is free
		EXPECT_EQ(call.slot, 1u);
	}
}

} // namespace
} // namespace bulkhead
