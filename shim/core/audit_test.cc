// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Audit: what a driver or a guard denies is counted and recorded, and denies nothing.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

bh_channel_config AuditConfig(uint32_t altitude, uint8_t mode)
{
	bh_channel_config config = TestConfig();
	config.spec.altitude = altitude;
	config.spec.cache_entries = 64;
	config.spec.policy.mode = mode;
	return config;
}

class AuditTest : public CoreTest
{
      protected:
	AuditTest() : CoreTest(AuditConfig(1000, BH_MODE_AUDIT))
	{
		channel.BeginGeneration(1);
	}
	void SetMode(FakeChannel *of, uint8_t mode)
	{
		of->config.spec.policy.mode = mode;
		ASSERT_EQ(bh_channel_set_policy(of->c, &of->config.spec.policy), 0);
	}
	void DenyAll(FakeChannel *of)
	{
		for (uint32_t reason = 0; reason < BH_REASON_COUNT; reason++)
			SetRule(&of->config.spec.policy, reason, BH_ACTION_DENY, BH_ACTION_DENY);
		ASSERT_EQ(bh_channel_set_policy(of->c, &of->config.spec.policy), 0);
	}
	// The call as it ended, after this answer of the driver's.
	bh_call Answered(bh_call call, uint32_t verdict, uint32_t cacheability = BH_CACHE_NOT,
			 uint32_t error = 0)
	{
		EXPECT_EQ(Start(&call), 0);
		channel.Answer(call.slot, verdict, cacheability, error);
		EXPECT_EQ(Step(&call), 1);
		return call;
	}
};

TEST_F(AuditTest, WhatTheDriverDeniesGoesOnAndIsRecorded)
{
	static const char kName[] = "/srv/a";
	bh_call call = NewCall(77);
	call.payload = kName;
	call.payload_bytes = sizeof(kName) - 1;
	ASSERT_EQ(Start(&call), 0);
	bh_reply_slot *reply = channel.Reply(call.slot);
	std::memcpy(reply->reply + sizeof(bh_verdict_reply), "EICAR", 5);
	const bh_verdict_reply denial = {BH_VERDICT_DENY, BH_CACHE_NOT, 13};
	reply->status = BH_REPLY_DONE;
	reply->reply_bytes = sizeof(denial) + 5;
	std::memcpy(reply->reply, &denial, sizeof(denial));
	bh_store_release(&reply->ticket, channel.Call(call.slot)->ticket);
	ASSERT_EQ(Step(&call), 1);

	EXPECT_EQ(call.verdict, BH_VERDICT_ALLOW);
	EXPECT_EQ(call.outcome, BH_OUTCOME_ANSWERED);
	EXPECT_EQ(call.error, 0u);
	EXPECT_EQ(channel.Statistics().would_deny, 1u);
	EXPECT_EQ(channel.Statistics().denied, 0u);
	EXPECT_EQ(channel.Statistics().let_through, 0u);
	ASSERT_EQ(platform.denials.size(), 1u);
	const bh_denial &record = platform.denials[0];
	EXPECT_EQ(record.audited, BH_AUDITED_DRIVER);
	EXPECT_EQ(record.by, BH_DENIED_BY_DRIVER);
	EXPECT_EQ(record.error, 13u);
	EXPECT_EQ(record.callback, BH_CALLBACK_FILE_OPEN);
	EXPECT_EQ(record.device, 1u);
	EXPECT_EQ(record.inode, 77u);
	EXPECT_EQ(record.call_id, call.call_id);
	EXPECT_EQ(record.generation, 1u);
	EXPECT_STREQ(record.why, "EICAR");
	EXPECT_STREQ(record.path, kName);
}

TEST_F(AuditTest, OfALongNameTheRecordHasTheEnd)
{
	const std::string name = "/" + std::string(BH_DENIAL_PATH_BYTES, 'a') + "/end";
	bh_call call = NewCall();
	call.payload = name.data();
	call.payload_bytes = name.size();
	channel.config.spec.geometry.call_chunks = 4;
	Answered(call, BH_VERDICT_DENY);
	ASSERT_EQ(platform.denials.size(), 1u);
	const char *path = platform.denials[0].path;
	EXPECT_EQ(std::string(path, BH_DENIAL_PATH_BYTES),
		  name.substr(name.size() - BH_DENIAL_PATH_BYTES));
}

TEST_F(AuditTest, NoReasonOfThePolicyDenies)
{
	DenyAll(&channel);
	// absent
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_STOPPED), 0);
	bh_call absent = NewCall();
	ASSERT_EQ(Start(&absent), 1);
	ExpectPolicy(absent, BH_REASON_ABSENT, BH_VERDICT_ALLOW);
	bh_channel_set_quarantined(channel.c, 1);
	bh_call quarantined = NewCall();
	ASSERT_EQ(Start(&quarantined), 1);
	ExpectPolicy(quarantined, BH_REASON_ABSENT, BH_VERDICT_ALLOW);
	// declined
	channel.BeginGeneration(2);
	bh_call declined = NewCall();
	ASSERT_EQ(Start(&declined), 0);
	channel.Decline(declined.slot);
	ASSERT_EQ(Step(&declined), 1);
	ExpectPolicy(declined, BH_REASON_DECLINED, BH_VERDICT_ALLOW);
	// overdue
	bh_call overdue = NewCall();
	ASSERT_EQ(Start(&overdue), 0);
	channel.Begin(overdue.slot);
	platform.now_ns = overdue.deadline_ns;
	ASSERT_EQ(Step(&overdue), 1);
	ExpectPolicy(overdue, BH_REASON_OVERDUE, BH_VERDICT_ALLOW);
	// poison: two hosts fell over it
	bh_call poison = NewCall(99);
	ASSERT_EQ(Start(&poison), 0);
	for (uint32_t generation = 2; generation < 4; generation++) {
		channel.Begin(poison.slot);
		ASSERT_EQ(bh_channel_end_generation(channel.c, generation, BH_END_CRASHED), 0);
		if (generation == 2) {
			channel.BeginGeneration(3);
			ASSERT_EQ(Step(&poison), 0);
		}
	}
	ASSERT_EQ(Step(&poison), 1);
	ExpectPolicy(poison, BH_REASON_POISON, BH_VERDICT_ALLOW);
	// crashed
	bh_call crashed = NewCall();
	ASSERT_EQ(Start(&crashed), 1);
	ExpectPolicy(crashed, BH_REASON_CRASHED, BH_VERDICT_ALLOW);
	// full: each slot is another call's
	channel.BeginGeneration(4);
	std::vector<bh_call> calls(4);
	for (bh_call &call : calls) {
		call = FileCall(500, platform.now_ns + 1000);
		ASSERT_EQ(Start(&call), 0);
	}
	bh_call full = NewCall();
	ASSERT_EQ(Start(&full), 1);
	ExpectPolicy(full, BH_REASON_FULL, BH_VERDICT_ALLOW);

	EXPECT_EQ(channel.Statistics().denied, 0u);
	EXPECT_EQ(channel.Statistics().would_deny, 7u);
	ASSERT_EQ(platform.denials.size(), 7u);
	for (const bh_denial &record : platform.denials)
		EXPECT_EQ(record.by, BH_DENIED_BY_POLICY);
	EXPECT_EQ(platform.denials[0].reason, BH_REASON_ABSENT);
	EXPECT_EQ(platform.denials.back().reason, BH_REASON_FULL);
}

// What an audit lets through must not be what is remembered.
TEST_F(AuditTest, ARememberedDenialDeniesOnceTheDriverIsEnforced)
{
	EXPECT_EQ(Answered(NewCall(5), BH_VERDICT_DENY, BH_CACHE_OBJECT, 13).verdict,
		  BH_VERDICT_ALLOW);
	bh_call audited = NewCall(5);
	ASSERT_EQ(Start(&audited), 1);
	EXPECT_EQ(audited.outcome, BH_OUTCOME_CACHED);
	EXPECT_EQ(audited.verdict, BH_VERDICT_ALLOW);
	EXPECT_EQ(audited.error, 0u);
	EXPECT_EQ(platform.denials.back().by, BH_DENIED_BY_CACHE);
	EXPECT_EQ(platform.denials.back().audited, BH_AUDITED_DRIVER);

	SetMode(&channel, BH_MODE_ENFORCE);
	bh_call enforced = NewCall(5);
	ASSERT_EQ(Start(&enforced), 1);
	EXPECT_EQ(enforced.outcome, BH_OUTCOME_CACHED);
	EXPECT_EQ(enforced.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(enforced.error, 13u);
	EXPECT_EQ(platform.denials.back().audited, 0u);
	EXPECT_EQ(channel.Statistics().would_deny, 2u);
	EXPECT_EQ(channel.Statistics().denied, 1u);
}

// The mode counts when a call ends, not when it came.
TEST_F(AuditTest, TheModeChangesForCallsInFlight)
{
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 0);
	SetMode(&channel, BH_MODE_ENFORCE);
	channel.Answer(call.slot, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&call), 1);
	EXPECT_EQ(call.verdict, BH_VERDICT_DENY);

	bh_call next = NewCall();
	ASSERT_EQ(Start(&next), 0);
	SetMode(&channel, BH_MODE_AUDIT);
	channel.Answer(next.slot, BH_VERDICT_DENY);
	ASSERT_EQ(Step(&next), 1);
	EXPECT_EQ(next.verdict, BH_VERDICT_ALLOW);
}

TEST_F(AuditTest, AnAuditedCallIsDeniedByNoDriver)
{
	SetMode(&channel, BH_MODE_ENFORCE);
	bh_call call = NewCall();
	call.audited = 1;
	EXPECT_EQ(Answered(call, BH_VERDICT_DENY, BH_CACHE_OBJECT).verdict, BH_VERDICT_ALLOW);
	EXPECT_EQ(platform.denials.back().audited, BH_AUDITED_GUARD);
	// The same object through a guard that is enforced.
	bh_call enforced = NewCall();
	ASSERT_EQ(Start(&enforced), 1);
	EXPECT_EQ(enforced.verdict, BH_VERDICT_DENY);
	EXPECT_EQ(platform.denials.back().audited, 0u);
}

TEST_F(AuditTest, OfAStackOnlyTheEnforcedDriversDeny)
{
	FakeChannel second(&platform, AuditConfig(500, BH_MODE_ENFORCE));
	second.BeginGeneration(1);
	bh_shim_add(&shim, second.c);

	for (uint32_t verdict : {BH_VERDICT_ALLOW, BH_VERDICT_DENY}) {
		bh_call call = NewCall();
		ASSERT_EQ(Start(&call), 0);
		channel.Answer(call.slot, BH_VERDICT_DENY);
		ASSERT_EQ(Step(&call), 0) << "the driver behind it is asked";
		ASSERT_EQ(call.channel, second.c);
		second.Answer(call.slot, verdict);
		ASSERT_EQ(Step(&call), 1);
		EXPECT_EQ(call.verdict, verdict);
	}
	EXPECT_EQ(channel.Statistics().would_deny, 2u);
	EXPECT_EQ(second.Statistics().denied, 1u);
	EXPECT_EQ(second.Statistics().would_deny, 0u);

	// The audited driver behind one that denies is not asked, as ever.
	SetMode(&channel, BH_MODE_ENFORCE);
	SetMode(&second, BH_MODE_AUDIT);
	EXPECT_EQ(Answered(NewCall(), BH_VERDICT_DENY).verdict, BH_VERDICT_DENY);
	EXPECT_EQ(second.Statistics().calls, 2u);
}

TEST_F(AuditTest, ACallThatMustNotRunTwiceGoesOnToTheOtherDrivers)
{
	SetRule(&channel.config.spec.policy, BH_REASON_OVERDUE, BH_ACTION_DENY, BH_ACTION_DENY);
	SetMode(&channel, BH_MODE_AUDIT);
	bh_call call = NewCall();
	call.reissue = BH_REISSUE_IF_UNBEGUN;
	ASSERT_EQ(Start(&call), 0);
	channel.Begin(call.slot);
	ASSERT_EQ(bh_channel_end_generation(channel.c, 1, BH_END_KILLED), 0);
	ASSERT_EQ(Step(&call), 1);
	ExpectPolicy(call, BH_REASON_OVERDUE, BH_VERDICT_ALLOW);
	EXPECT_EQ(channel.Statistics().unknown, 1u);
}

TEST_F(AuditTest, ACallThatIsNotAskedAboutIsRefusedByEnforcedDriversOnly)
{
	FakeChannel second(&platform, AuditConfig(500, BH_MODE_ENFORCE));
	bh_shim_add(&shim, second.c);
	DenyAll(&channel);
	const bh_call call = NewCall(3);
	EXPECT_EQ(bh_call_refuse(&shim, &call, BH_REASON_FULL), BH_VERDICT_ALLOW);
	EXPECT_EQ(channel.Statistics().would_deny, 1u);

	DenyAll(&second);
	EXPECT_EQ(bh_call_refuse(&shim, &call, BH_REASON_CROWD), BH_VERDICT_DENY);
	EXPECT_EQ(channel.Statistics().would_deny, 2u);
	EXPECT_EQ(second.Statistics().denied, 1u);
	ASSERT_EQ(platform.denials.size(), 3u);
	EXPECT_EQ(platform.denials[2].reason, BH_REASON_CROWD);
	EXPECT_EQ(platform.denials[2].inode, 3u);
	EXPECT_EQ(platform.denials[2].audited, 0u);

	bh_call audited = call;
	audited.audited = 1;
	EXPECT_EQ(bh_call_refuse(&shim, &audited, BH_REASON_FULL), BH_VERDICT_ALLOW);
}

TEST_F(AuditTest, OfAFloodEachIsCountedAndSomeAreRecorded)
{
	constexpr uint32_t kFlood = 1000;
	for (uint32_t i = 0; i < kFlood; i++)
		Answered(NewCall(), BH_VERDICT_DENY);
	const size_t at_a_time = platform.denials.size();
	EXPECT_LE(at_a_time, 100u);
	EXPECT_GE(at_a_time, 1u);
	EXPECT_EQ(channel.Statistics().would_deny, kFlood);
	EXPECT_EQ(channel.Statistics().unrecorded, kFlood - at_a_time);

	platform.now_ns += 1000000000;
	for (uint32_t i = 0; i < kFlood; i++)
		Answered(NewCall(), BH_VERDICT_DENY);
	EXPECT_EQ(platform.denials.size(), at_a_time + 10) << "so many a second";
	EXPECT_EQ(channel.Statistics().would_deny, 2 * kFlood);
	EXPECT_EQ(channel.Statistics().unrecorded, 2 * kFlood - platform.denials.size());
}

TEST_F(AuditTest, ARecordThatFindsNoRoomIsCounted)
{
	platform.has_room_for_denials = false;
	Answered(NewCall(), BH_VERDICT_DENY);
	SetMode(&channel, BH_MODE_ENFORCE);
	EXPECT_EQ(Answered(NewCall(), BH_VERDICT_DENY).verdict, BH_VERDICT_DENY);
	EXPECT_EQ(channel.Statistics().unrecorded, 2u);
	platform.c.denied = nullptr;
	Answered(NewCall(), BH_VERDICT_DENY);
	EXPECT_EQ(channel.Statistics().unrecorded, 2u) << "none are kept";
}

TEST(AuditPolicy, AModeThatIsNoneIsRefused)
{
	bh_policy policy;
	bh_policy_default(&policy);
	EXPECT_EQ(policy.mode, BH_MODE_ENFORCE);
	for (uint32_t mode = 0; mode < 256; mode++) {
		policy.mode = static_cast<uint8_t>(mode);
		EXPECT_EQ(bh_policy_check(&policy), mode <= BH_MODE_AUDIT ? 0 : -1) << mode;
	}
	policy.mode = BH_MODE_AUDIT;
	EXPECT_TRUE(bh_policy_may_allow(&policy, BH_REASON_POISON));
}

} // namespace
} // namespace bulkhead
