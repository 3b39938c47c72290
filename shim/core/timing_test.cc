// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// The times of calls that a channel counts.
#include <gtest/gtest.h>

#include <numeric>

#include "ipc/abi/latency.h"
#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

class TimingTest : public CoreTest
{
      protected:
	TimingTest()
	{
		platform.c.timed_every = 1;
	}
	bh_statistics Counted()
	{
		return channel.Statistics();
	}
	static uint64_t Timed(const bh_statistics &statistics)
	{
		return std::accumulate(std::begin(statistics.took), std::end(statistics.took),
				       uint64_t{0});
	}
	bh_call LongCall(uint64_t inode = 7)
	{
		return FileCall(inode, platform.now_ns + (60ull << 30));
	}
	// Answered `took_ns` after its start.
	void Take(uint64_t took_ns, uint64_t inode = 7, uint32_t cacheability = BH_CACHE_NOT)
	{
		bh_call call = LongCall(inode);
		ASSERT_EQ(Start(&call), 0);
		platform.now_ns += took_ns;
		channel.Answer(call.slot, BH_VERDICT_ALLOW, cacheability);
		ASSERT_EQ(Step(&call), 1);
	}
};

TEST_F(TimingTest, EachPartHasTheTimesBelowItsBound)
{
	EXPECT_EQ(bh_latency_part(0), 0u);
	for (uint32_t part = 0; part + 1 < BH_LATENCY_COUNT; part++) {
		EXPECT_EQ(bh_latency_part(bh_latency_bound_ns(part) - 1), part);
		EXPECT_EQ(bh_latency_part(bh_latency_bound_ns(part)), part + 1);
	}
	EXPECT_EQ(bh_latency_part(~0ull), BH_LATENCY_COUNT - 1);
}

TEST_F(TimingTest, AnsweredCallsAreCountedByTheirTimes)
{
	channel.BeginGeneration(1);
	for (const uint64_t took_ns : {0ull, 1023ull, 1024ull, 5'000'000ull, 30'000'000'000ull})
		Take(took_ns);
	const bh_statistics statistics = Counted();
	EXPECT_EQ(statistics.took[0], 2u);
	EXPECT_EQ(statistics.took[1], 1u);
	EXPECT_EQ(statistics.took[13], 1u);
	EXPECT_EQ(statistics.took[BH_LATENCY_COUNT - 1], 1u);
	EXPECT_EQ(Timed(statistics), 5u);
	EXPECT_EQ(statistics.took_ns, 30'005'002'047ull);
}

TEST_F(TimingTest, OneCallInSoManyIsTimed)
{
	platform.c.timed_every = 4;
	channel.BeginGeneration(1);
	for (int i = 0; i < 40; i++)
		Take(100);
	EXPECT_EQ(Timed(Counted()), 10u);
	platform.c.timed_every = 0;
	for (int i = 0; i < 40; i++)
		Take(100);
	EXPECT_EQ(Timed(Counted()), 10u);
}

TEST_F(TimingTest, CallsThatPolicyOrTheirCallersEndAreTimed)
{
	channel.BeginGeneration(1);
	bh_call overdue = FileCall(7, platform.now_ns + 5'000'000);
	ASSERT_EQ(Start(&overdue), 0);
	platform.now_ns += 5'000'000;
	ASSERT_EQ(Step(&overdue), 1);
	ASSERT_EQ(overdue.outcome, BH_OUTCOME_POLICY);
	EXPECT_EQ(Counted().took[13], 1u);
	bh_call killed = LongCall();
	ASSERT_EQ(Start(&killed), 0);
	platform.now_ns += 100'000;
	bh_call_cancel(&killed, platform.now_ns);
	EXPECT_EQ(Counted().took[7], 1u);
	EXPECT_EQ(Timed(Counted()), 2u);
}

// They would hide how long the others wait.
TEST_F(TimingTest, VerdictsOfTheCacheAreNotTimed)
{
	bh_channel_config config = TestConfig();
	config.spec.cache_entries = 64;
	FakeChannel cached(&platform, config);
	Use(&cached);
	cached.BeginGeneration(1);
	bh_call call = LongCall();
	ASSERT_EQ(Start(&call), 0);
	cached.Answer(call.slot, BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	ASSERT_EQ(Step(&call), 1);
	for (int i = 0; i < 9; i++) {
		call = LongCall();
		ASSERT_EQ(Start(&call), 1);
		EXPECT_EQ(call.outcome, BH_OUTCOME_CACHED);
	}
	EXPECT_EQ(Timed(cached.Statistics()), 1u);
}

TEST_F(TimingTest, EachDriverOfAStackHasItsOwnTime)
{
	FakeChannel second(&platform, TestConfig());
	bh_shim_add(&shim, second.c);
	channel.BeginGeneration(1);
	second.BeginGeneration(1);
	bh_call call = LongCall();
	ASSERT_EQ(Start(&call), 0);
	platform.now_ns += 1'000;
	channel.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 0);
	platform.now_ns += 1'000'000;
	second.Answer(call.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(Counted().took[0], 1u);
	EXPECT_EQ(second.Statistics().took[10], 1u);
}

} // namespace
} // namespace bulkhead
