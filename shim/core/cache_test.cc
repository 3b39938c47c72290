// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

bh_channel_config CacheConfig()
{
	bh_channel_config config = TestConfig();
	config.spec.cache_entries = 64;
	return config;
}

class CacheTest : public CoreTest
{
      protected:
	CacheTest() : CoreTest(CacheConfig())
	{
		channel.BeginGeneration(1);
		channel.SetContent(1);
	}
	static void SetChange(bh_call *call, uint64_t change)
	{
		bh_file_args args;
		std::memcpy(&args, call->args, sizeof(args));
		args.change = change;
		std::memcpy(call->args, &args, sizeof(args));
	}
	// The driver is asked, and answers.
	void Ask(bh_call call, uint32_t verdict, uint32_t cacheability)
	{
		ASSERT_EQ(Start(&call), 0);
		channel.Answer(call.slot, verdict, cacheability);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	}
	void ExpectCached(bh_call call, uint32_t verdict)
	{
		ASSERT_EQ(Start(&call), 1);
		EXPECT_EQ(call.outcome, BH_OUTCOME_CACHED);
		EXPECT_EQ(call.verdict, verdict);
	}
	void ExpectNotCached(bh_call call)
	{
		ASSERT_EQ(Start(&call), 0);
		bh_call_cancel(&call, platform.now_ns);
		channel.Answer(call.slot, BH_VERDICT_ALLOW);
	}
};

TEST_F(CacheTest, HoldsWhatTheDriverLetsItHold)
{
	Ask(NewCall(1), BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	Ask(NewCall(2), BH_VERDICT_DENY, BH_CACHE_OBJECT);
	Ask(NewCall(3), BH_VERDICT_DENY, BH_CACHE_NOT);
	ExpectCached(NewCall(1), BH_VERDICT_ALLOW);
	ExpectCached(NewCall(2), BH_VERDICT_DENY);
	ExpectNotCached(NewCall(3));
	const bh_statistics statistics = channel.Statistics();
	EXPECT_EQ(statistics.cached, 2u);
	EXPECT_EQ(statistics.calls, 6u);
	EXPECT_EQ(statistics.denied, 3u);
}

TEST_F(CacheTest, IsAskedBeforeThereIsAPayload)
{
	Ask(NewCall(1), BH_VERDICT_DENY, BH_CACHE_OBJECT);
	bh_call known = NewCall(1);
	bh_call_start(&shim, &known);
	ASSERT_NE(bh_call_try_caches(&known, platform.now_ns), 0);
	EXPECT_EQ(known.outcome, BH_OUTCOME_CACHED);
	EXPECT_EQ(known.verdict, BH_VERDICT_DENY);

	static const char name[] = "/a/name";
	bh_call unknown = NewCall(2);
	bh_call_start(&shim, &unknown);
	ASSERT_EQ(bh_call_try_caches(&unknown, platform.now_ns), 0);
	unknown.payload = name;
	unknown.payload_bytes = sizeof(name);
	ASSERT_EQ(Step(&unknown), 0);
	EXPECT_EQ(channel.Call(unknown.slot)->payload_bytes, sizeof(name));
	channel.Answer(unknown.slot, BH_VERDICT_ALLOW);
	ASSERT_EQ(Step(&unknown), 1);
	EXPECT_EQ(unknown.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(channel.Statistics().cached, 1u);
}

TEST_F(CacheTest, ADenialIsKeptWithItsErrno)
{
	bh_call call = NewCall(1);
	Start(&call);
	channel.Answer(call.slot, BH_VERDICT_DENY, BH_CACHE_OBJECT, 13);
	ASSERT_EQ(Step(&call), 1);
	bh_call known = NewCall(1);
	ASSERT_EQ(Start(&known), 1);
	EXPECT_EQ(known.outcome, BH_OUTCOME_CACHED);
	EXPECT_EQ(known.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(known.error, 13u);

	// By policy, too, when that is to use what is known.
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	channel.SetContent(99);
	SetPolicy(BH_REASON_CRASHED, BH_ACTION_CACHED, BH_ACTION_ALLOW);
	bh_call unserved = NewCall(1);
	ASSERT_EQ(Start(&unserved), 1);
	ExpectPolicy(unserved, BH_REASON_CRASHED, BH_VERDICT_DENY);
	EXPECT_EQ(unserved.error, 13u);
}

TEST_F(CacheTest, WhatIsAllowedByAVerdictOfTheDriversIsNotLetThrough)
{
	Ask(NewCall(1), BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	channel.SetContent(99);
	SetPolicy(BH_REASON_CRASHED, BH_ACTION_CACHED, BH_ACTION_ALLOW);
	for (uint64_t inode : {1u, 2u}) {
		bh_call unserved = NewCall(inode);
		ASSERT_EQ(Start(&unserved), 1);
		ExpectPolicy(unserved, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
		EXPECT_EQ(channel.Statistics().let_through, inode - 1);
	}
}

TEST_F(CacheTest, ObjectCallbackChangeAndVersionAreTheKey)
{
	Ask(NewCall(1), BH_VERDICT_DENY, BH_CACHE_OBJECT);
	ExpectNotCached(NewCall(9));
	ExpectNotCached(FileCall(1, platform.now_ns + 1000, BH_CALLBACK_FILE_EXEC));
	bh_call changed = NewCall(1);
	SetChange(&changed, 2);
	ExpectNotCached(changed);
	bh_call shorter = NewCall(1);
	shorter.args_bytes--;
	ExpectNotCached(shorter);
	channel.SetContent(2);
	ExpectNotCached(NewCall(1));
	channel.SetContent(1);
	ExpectCached(NewCall(1), BH_VERDICT_DENY);
}

// Its verdicts are not taken: not those before, nor those that arrive behind its conviction, nor as
// the last known.
TEST_F(CacheTest, NothingThatAHostSaidBeforeItsConvictionIsKept)
{
	Ask(NewCall(1), BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	bh_call late = NewCall(2);
	ASSERT_EQ(Start(&late), 0);
	channel.Answer(late.slot, BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_HOSTILE), 0);
	ASSERT_EQ(Step(&late), 1); // it was answered before
	SetPolicy(BH_REASON_CRASHED, BH_ACTION_CACHED, BH_ACTION_DENY);
	for (uint64_t inode : {1u, 2u}) {
		bh_call unserved = NewCall(inode);
		ASSERT_EQ(Start(&unserved), 1);
		ExpectPolicy(unserved, BH_REASON_CRASHED, BH_VERDICT_DENY);
	}
	channel.BeginGeneration(2);
	ExpectNotCached(NewCall(1));
	ExpectNotCached(NewCall(2));
	Ask(NewCall(1), BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	ExpectCached(NewCall(1), BH_VERDICT_ALLOW);
	// A crash convicts a host of nothing.
	ASSERT_EQ(bh_channel_end_generation(channel.c, 2, BH_END_CRASHED), 0);
	channel.BeginGeneration(3);
	ExpectCached(NewCall(1), BH_VERDICT_ALLOW);
}

TEST_F(CacheTest, NothingIsKeptAboutAnObjectThatMayChangeUnseen)
{
	bh_call changing = NewCall(1);
	SetChange(&changing, 0);
	Ask(changing, BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	ExpectNotCached(changing);
	Ask(NewCall(1), BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	ExpectCached(NewCall(1), BH_VERDICT_ALLOW);
	SetPolicy(BH_REASON_CRASHED, BH_ACTION_CACHED, BH_ACTION_DENY);
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	ASSERT_EQ(Start(&changing), 1);
	ExpectPolicy(changing, BH_REASON_CRASHED, BH_VERDICT_DENY);
}

TEST_F(CacheTest, VerdictIsAboutTheContentThatWasThereWhenItWasAsked)
{
	bh_call call = NewCall(1);
	ASSERT_EQ(Start(&call), 0);
	channel.SetContent(2);
	channel.Answer(call.slot, BH_VERDICT_ALLOW, BH_CACHE_OBJECT);
	ASSERT_EQ(Step(&call), 1);
	ExpectNotCached(NewCall(1));
}

TEST_F(CacheTest, ActionCachedTakesTheLastVerdictOfAnyContent)
{
	Ask(NewCall(1), BH_VERDICT_DENY, BH_CACHE_OBJECT);
	channel.SetContent(2);
	SetPolicy(BH_REASON_CRASHED, BH_ACTION_CACHED, BH_ACTION_ALLOW);
	bh_channel_end_generation(channel.c, 1, BH_END_CRASHED);
	bh_call known = NewCall(1), unknown = NewCall(2);
	ASSERT_EQ(Start(&known), 1);
	ExpectPolicy(known, BH_REASON_CRASHED, BH_VERDICT_DENY);
	ASSERT_EQ(Start(&unknown), 1);
	ExpectPolicy(unknown, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
}

TEST_F(CacheTest, AnswersAreRightWhenItOverflows)
{
	for (uint64_t inode = 0; inode < 1000; inode++)
		Ask(NewCall(inode), inode % 2 ? BH_VERDICT_ALLOW : BH_VERDICT_DENY,
		    BH_CACHE_OBJECT);
	uint32_t hits = 0;
	for (uint64_t inode = 0; inode < 1000; inode++) {
		bh_call call = NewCall(inode);
		if (!Start(&call)) {
			channel.Answer(call.slot, BH_VERDICT_ALLOW);
			Step(&call);
			continue;
		}
		hits++;
		EXPECT_EQ(call.verdict, inode % 2 ? BH_VERDICT_ALLOW : BH_VERDICT_DENY);
	}
	EXPECT_GT(hits, 0u);
	EXPECT_LE(hits, 64u);
}

TEST(Cache, SizeIsAPowerOfTwo)
{
	bh_channel_config config = TestConfig();
	for (uint32_t entries : {0u, 1u, 2u, 4u, 1024u}) {
		config.spec.cache_entries = entries;
		EXPECT_NE(bh_channel_private_bytes(&config), 0u) << entries;
	}
	config.spec.cache_entries = 3;
	EXPECT_EQ(bh_channel_private_bytes(&config), 0u);
}

} // namespace
} // namespace bulkhead
