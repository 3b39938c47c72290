// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Sleeping, waking and spinning, with a host that acts while the caller sleeps.
#include "tests/testing/fake_channel.h"
#include "shim/core/internal.h"

namespace bulkhead
{
namespace
{

class WaitTest : public CoreTest
{
      protected:
	WaitTest()
	{
		channel.BeginGeneration(1);
	}
};

TEST_F(WaitTest, RunSleepsOnTheBellAndIsWoken)
{
	platform.on_wait = [&](uint32_t *word, uint32_t expected, uint64_t) {
		EXPECT_EQ(word, &channel.Reply(0)->bell);
		EXPECT_EQ(*word, expected);
		EXPECT_EQ(channel.Call(0)->caller_sleeps, 1u);
		channel.Answer(0, BH_VERDICT_DENY);
		(*word)++;
		return 0;
	};
	bh_call call = NewCall();
	bh_call_run(&shim, &call);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(platform.waits, 1u);
	EXPECT_EQ(channel.Call(0)->caller_sleeps, 0u);
	EXPECT_EQ(call.spurious_wakes, 0u);
}

TEST_F(WaitTest, AnswerBetweenTheLookAndTheAnnouncementIsSeen)
{
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	channel.Answer(0, BH_VERDICT_ALLOW); // the host saw no announcement: it rings no bell
	EXPECT_TRUE(bh_call_will_sleep(&call, &wait));
	bh_call_awake(&call);
	EXPECT_EQ(Step(&call), 1);
}

TEST_F(WaitTest, RunEndsByTheDeadlineWhateverHappens)
{
	bh_call call = NewCall();
	const uint64_t deadline_ns = call.deadline_ns;
	bh_call_run(&shim, &call);
	ExpectPolicy(call, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(call.ended_ns, deadline_ns);
}

TEST_F(WaitTest, RunUntilGivesTheCallBack)
{
	bh_call call = NewCall();
	bh_call_start(&shim, &call);
	EXPECT_EQ(bh_call_run_until(&call, platform.now_ns + 10), 0);
	EXPECT_EQ(call.outcome, BH_OUTCOME_PENDING);
	EXPECT_EQ(channel.Call(0)->caller_sleeps, 0u);
	channel.Answer(0, BH_VERDICT_DENY);
	EXPECT_EQ(bh_call_run_until(&call, platform.now_ns + 10), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);
}

TEST_F(WaitTest, AKilledCallerIsCancelled)
{
	platform.on_wait = [](uint32_t *, uint32_t, uint64_t) { return -1; };
	bh_call call = NewCall();
	bh_call_run(&shim, &call);
	EXPECT_EQ(call.outcome, BH_OUTCOME_CANCELLED);
}

TEST_F(WaitTest, TheEndOfAGenerationRingsTheBell)
{
	platform.on_wait = [&](uint32_t *word, uint32_t expected, uint64_t) {
		if (platform.waits == 1) {
			bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
			EXPECT_TRUE(platform.Woke(word));
			EXPECT_NE(*word, expected);
		} else if (platform.waits == 2) {
			channel.BeginGeneration(2);
			EXPECT_NE(*word, expected);
		} else {
			channel.Answer(0, BH_VERDICT_DENY);
			(*word)++;
		}
		return 0;
	};
	bh_call call = NewCall();
	bh_call_run(&shim, &call);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.issues, 2u);
	EXPECT_EQ(platform.waits, 3u);
}

TEST_F(WaitTest, AHostThatRingsForNothingIsSlowedDownAndConvicted)
{
	bh_call call = NewCall();
	call.deadline_ns = platform.now_ns + 1'000'000'000;
	const uint64_t deadline_ns = call.deadline_ns;
	platform.on_wait = [&](uint32_t *word, uint32_t expected, uint64_t until_ns) {
		channel.Reply(0)->bell++; // as fast as it can
		if (*word == expected)
			platform.now_ns = until_ns;
		return 0;
	};
	bh_call_run(&shim, &call);
	ExpectPolicy(call, BH_REASON_HUNG, BH_VERDICT_ALLOW);
	EXPECT_EQ(call.ended_ns, deadline_ns);
	ASSERT_EQ(platform.Count(BH_EVENT_VIOLATION), 1u);
	EXPECT_EQ(platform.events[0].detail, uint32_t{BH_VIOLATION_BELL});
	EXPECT_EQ(channel.Statistics().generation, 0u);
	EXPECT_LT(platform.waits, 2000u); // in a second
}

TEST_F(WaitTest, PublishingWakesTheHomeWorkerAndSleepingAnother)
{
	channel.Host()->sleeping[0] = channel.Host()->sleeping[1] = 1;
	bh_call first = NewCall(), second = NewCall();
	Start(&first);
	EXPECT_TRUE(platform.Woke(&channel.Host()->sleeping[0]));
	EXPECT_FALSE(platform.Woke(&channel.Host()->sleeping[1]));
	EXPECT_EQ(channel.Host()->sleeping[0], 0u); // stored before the wake
	channel.Begin(first.slot);
	// The home worker is busy: the second call waits for it until its caller gives up spinning.
	Start(&second);
	EXPECT_EQ(platform.wakes.size(), 2u); // one at the begin of the generation
	EXPECT_FALSE(bh_call_will_sleep(&second, &wait));
	EXPECT_TRUE(platform.Woke(&channel.Host()->sleeping[1]));
	bh_call_awake(&second);
	const size_t wakes = platform.wakes.size();
	channel.Host()->sleeping[1] = 1;
	bh_call_will_sleep(&second, &wait); // once for each issue
	EXPECT_EQ(platform.wakes.size(), wakes);
}

TEST_F(WaitTest, ACallInAWorkersHandWakesNobodyElse)
{
	bh_call call = NewCall();
	Start(&call);
	channel.Begin(call.slot);
	channel.Host()->sleeping[3] = 1;
	bh_call_will_sleep(&call, &wait);
	EXPECT_FALSE(platform.Woke(&channel.Host()->sleeping[3]));
}

TEST_F(WaitTest, ForgedSleepWordsStayInBounds)
{
	for (uint32_t &word : channel.Host()->sleeping)
		word = 0xffffffff;
	for (uint32_t cpu = 0; cpu < 70; cpu++) {
		platform.cpu = cpu;
		bh_call call = NewCall();
		Start(&call);
		bh_call_will_sleep(&call, &wait);
		bh_call_awake(&call);
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
		ASSERT_EQ(Step(&call), 1);
	}
}

// The host answers when the clock is read for the n-th time: the only thing a spin calls.
class SpinTest : public ::testing::Test
{
      public:
	SpinTest()
	{
		bh_channel_config config = TestConfig();
		config.spec.spin_ns = 10000;
		config.spec.cache_entries = 0;
		platform.c.now_ns = [](void *self) {
			auto *fake = static_cast<FakePlatform *>(self);
			return fake->now_ns += 1000;
		};
		channel = std::make_unique<FakeChannel>(&platform, config);
		bh_shim_init(&shim, &platform.c);
		bh_shim_add(&shim, channel->c);
		channel->BeginGeneration(1);
	}
	void RunAnsweredAsleep()
	{
		platform.on_wait = [&](uint32_t *word, uint32_t, uint64_t) {
			channel->Answer(0, BH_VERDICT_ALLOW);
			(*word)++;
			return 0;
		};
		bh_call call = FileCall(1, platform.now_ns + 1'000'000'000);
		bh_call_run(&shim, &call);
		ASSERT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	}
	uint32_t Budget() const
	{
		return channel->c->lanes[0].spin_ns;
	}
	FakePlatform platform;
	std::unique_ptr<FakeChannel> channel;
	bh_shim shim;
};

TEST_F(SpinTest, MissesTakeTheBudgetAwayAndHitsBringItBack)
{
	EXPECT_EQ(Budget(), 10000u);
	for (int i = 0; i < 40; i++)
		RunAnsweredAsleep();
	EXPECT_EQ(Budget(), 0u);
	// With the budget gone, the clock is read once, after the sleep.
	const uint64_t before_ns = platform.now_ns;
	RunAnsweredAsleep();
	EXPECT_EQ(platform.now_ns - before_ns, 1000u);

	platform.c.now_ns = [](void *self) {
		auto *test = static_cast<SpinTest *>(self);
		if (test->channel->Call(0)->ticket != test->channel->Reply(0)->ticket)
			test->channel->Answer(0, BH_VERDICT_ALLOW);
		return test->platform.now_ns += 100;
	};
	bh_platform answering = platform.c;
	answering.context = this;
	answering.cpu = [](void *) { return 0u; };
	answering.wake = [](void *, uint32_t *, int, int) {};
	answering.wait = [](void *self, uint32_t *word, uint32_t, int, uint64_t) {
		(*word)++;
		static_cast<SpinTest *>(self)->channel->Answer(0, BH_VERDICT_ALLOW);
		return 0;
	};
	platform.c = answering;
	uint32_t calls = 0;
	while (Budget() < 10000 && calls++ < 1000) {
		bh_call call = FileCall(1, platform.now_ns + 1'000'000'000);
		bh_call_run(&shim, &call);
		ASSERT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	}
	EXPECT_EQ(Budget(), 10000u);
}

// A coarse clock may be behind by more than any spin takes.
TEST_F(SpinTest, TheBudgetCountsFromTheExactTime)
{
	platform.coarse_behind_ns = BH_COARSE_NS;
	const uint64_t before_ns = platform.now_ns;
	RunAnsweredAsleep();
	// 1000 a look: the start of the spin, ten to spend the budget, one after the sleep.
	EXPECT_EQ(platform.now_ns - before_ns, 12'000u);
}

TEST_F(SpinTest, ACallThatIsOverdueWhenItComesIsNotGivenToTheHost)
{
	platform.coarse_behind_ns = BH_COARSE_NS;
	bh_call call = FileCall(1, platform.now_ns - 1);
	bh_call_run(&shim, &call);
	EXPECT_EQ(call.outcome, BH_OUTCOME_POLICY);
	EXPECT_EQ(call.reason, BH_REASON_FULL);
	EXPECT_EQ(call.issues, 0u);
	EXPECT_TRUE(platform.events.empty());
}

TEST_F(SpinTest, ZeroNeverSpins)
{
	bh_channel_config config = TestConfig();
	channel = std::make_unique<FakeChannel>(&platform, config);
	bh_shim_init(&shim, &platform.c);
	bh_shim_add(&shim, channel->c);
	channel->BeginGeneration(1);
	for (int i = 0; i < 200; i++) {
		const uint64_t before_ns = platform.now_ns;
		RunAnsweredAsleep();
		ASSERT_EQ(platform.now_ns - before_ns, 1000u);
	}
}

} // namespace
} // namespace bulkhead
