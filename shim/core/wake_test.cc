// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Which way a host is woken whose workers are bound to CPUs: on the caller's, or elsewhere.
#include "tests/testing/fake_channel.h"
#include "shim/core/internal.h"

namespace bulkhead
{
namespace
{

constexpr uint32_t kSpinNs = 1000;
constexpr uint64_t kLookNs = 500; // what a look at the clock takes: a spin ends

bh_channel_config SpinningConfig()
{
	bh_channel_config config = TestConfig();
	config.spec.spin_ns = kSpinNs;
	return config;
}

// Two workers, bound to CPUs 0 and 1; the caller runs on CPU 0.
class WakeTest : public CoreTest
{
      protected:
	WakeTest() : CoreTest(SpinningConfig())
	{
		channel.BeginGeneration(1);
		channel.Host()->sleeping[0] = channel.Host()->sleeping[1] = BH_SLEEPS_BOUND;
		platform.wakes.clear();
		platform.c.now_ns = [](void *self) {
			return static_cast<FakePlatform *>(self)->now_ns += kLookNs;
		};
	}
	bool Asleep(uint32_t worker)
	{
		return channel.Host()->sleeping[worker] != BH_AWAKE;
	}
	void Answer(uint32_t *bell)
	{
		channel.Answer(0, BH_VERDICT_ALLOW);
		(*bell)++;
	}

	// A host that takes here_ns when it is woken on the caller's CPU and elsewhere_ns when on
	// the other. The worker there spins until LetSleep().
	void Play(uint64_t here_ns, uint64_t elsewhere_ns)
	{
		platform.on_wake = [this](uint32_t *word) {
			if (word == &channel.Host()->sleeping[0] ||
			    word == &channel.Host()->sleeping[1])
				channel.Begin(0);
		};
		platform.on_wait = [this, here_ns, elsewhere_ns](uint32_t *word, uint32_t,
								 uint64_t) {
			platform.now_ns += Asleep(0) ? elsewhere_ns : here_ns;
			Answer(word);
			return 0;
		};
	}
	void LetSleep()
	{
		channel.Host()->sleeping[0] = channel.Host()->sleeping[1] = BH_SLEEPS_BOUND;
	}
	// Of so many cold calls, how many were handed over.
	int HandedOver(int calls)
	{
		int handed = 0;
		for (int i = 0; i < calls; i++) {
			LetSleep();
			Run();
			handed += !Asleep(0);
		}
		return handed;
	}
	void Run()
	{
		bh_call call = FileCall(7, platform.now_ns + 1'000'000'000);
		bh_call_run(&shim, &call);
		ASSERT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	}
};

TEST_F(WakeTest, AColdCallHandsItsCpuOverAndDoesNotSpin)
{
	uint64_t slept_until_ns = 0;
	const uint64_t began_ns = platform.now_ns;
	platform.on_wait = [&](uint32_t *word, uint32_t, uint64_t until_ns) {
		slept_until_ns = until_ns;
		EXPECT_EQ(platform.now_ns, began_ns + kLookNs);
		EXPECT_FALSE(Asleep(0));
		EXPECT_TRUE(Asleep(1)); // no other is woken
		Answer(word);
		return 0;
	};
	Run();
	EXPECT_EQ(platform.waits, 1u);
	EXPECT_LT(slept_until_ns, began_ns + 1'000'000'000); // the second look comes first
}

TEST_F(WakeTest, AWorkerThatDoesNotComeToRunIsReplaced)
{
	platform.on_wait = [&](uint32_t *word, uint32_t, uint64_t until_ns) {
		if (platform.waits == 1) {
			platform.now_ns = until_ns; // others want that CPU
			return 0;
		}
		EXPECT_FALSE(Asleep(1));
		Answer(word);
		return 0;
	};
	Run();
	EXPECT_EQ(platform.waits, 2u);
}

TEST_F(WakeTest, AWorkerThatHasTheCallIsNotReplaced)
{
	platform.on_wait = [&](uint32_t *word, uint32_t, uint64_t until_ns) {
		if (platform.waits == 1) {
			channel.Begin(0);
			platform.now_ns = until_ns; // its driver thinks
			return 0;
		}
		EXPECT_TRUE(Asleep(1));
		Answer(word);
		return 0;
	};
	Run();
	EXPECT_EQ(platform.waits, 2u);
}

TEST_F(WakeTest, TheCheaperWayIsTakenAndTheOtherTriedNowAndThen)
{
	Play(5'000, 50'000);
	EXPECT_GE(HandedOver(1000), 950);
	EXPECT_LT(HandedOver(2000), 2000);
	Play(250'000, 40'000); // the machine has changed: a process switch is dear now
	HandedOver(5000);
	EXPECT_LE(HandedOver(1000), 50);
}

TEST_F(WakeTest, CallsThatFollowEachOtherShareWhatTheWakeUpElsewhereTook)
{
	Play(5'000, 50'000);
	int handed = 0;
	for (int i = 0; i < 300; i++) {
		LetSleep();
		Run();
		handed += !Asleep(0);
		// Twenty more while the worker elsewhere is awake: they wake no worker.
		for (int follower = 0; follower < 20 && Asleep(0); follower++) {
			bh_call call = FileCall(7, platform.now_ns + 1'000'000'000);
			platform.wakes.clear();
			bh_call_start(&shim, &call);
			call.waits_here = 1;
			Step(&call);
			ASSERT_TRUE(platform.wakes.empty());
			channel.Answer(0, BH_VERDICT_ALLOW);
			ASSERT_EQ(Step(&call), 1);
		}
	}
	EXPECT_LT(handed, 30);
}

TEST_F(WakeTest, OnlyItsOwnCpuIsHandedOver)
{
	// Worker 1 is CPU 1's, but seen from there only worker 0 is known.
	channel.Host()->sleeping[1] = BH_AWAKE;
	platform.cpu = 1;
	bh_call call = NewCall();
	bh_call_start(&shim, &call);
	call.waits_here = 1;
	Step(&call);
	EXPECT_FALSE(Asleep(0));
	EXPECT_EQ(call.way, BH_WAY_NONE);
}

TEST_F(WakeTest, ACallThatIsSteppedHandsNothingOver)
{
	bh_call call = NewCall();
	Start(&call);
	EXPECT_TRUE(Asleep(0)); // its caller needs that CPU
	EXPECT_FALSE(Asleep(1));
	EXPECT_EQ(call.way, BH_WAY_NONE);
	EXPECT_FALSE(bh_call_will_sleep(&call, &wait));
	EXPECT_FALSE(Asleep(0)); // it may be long until its next look
	bh_call_awake(&call);
}

TEST_F(WakeTest, TheLastWorkerIsWokenWhoeverCalls)
{
	channel.Host()->sleeping[1] = BH_AWAKE;
	bh_call call = NewCall();
	Start(&call);
	EXPECT_FALSE(Asleep(0));
	EXPECT_EQ(call.way, BH_WAY_NONE);
}

} // namespace
} // namespace bulkhead
