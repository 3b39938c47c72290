// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include <string>

#include "tests/testing/fake_channel.h"

namespace bulkhead
{
namespace
{

TEST(Policy, DefaultDeniesWhatIsSuspiciousAndHoldsThenAllowsTheRest)
{
	bh_policy policy;
	bh_policy_default(&policy);
	EXPECT_EQ(bh_policy_check(&policy), 0);
	for (const auto &klass : policy.rule) {
		for (uint32_t reason :
		     {BH_REASON_ABSENT, BH_REASON_CRASHED, BH_REASON_HUNG, BH_REASON_FULL}) {
			EXPECT_EQ(klass[reason].action, BH_ACTION_HOLD);
			EXPECT_EQ(klass[reason].fallback, BH_ACTION_ALLOW);
		}
		for (uint32_t reason : {BH_REASON_POISON, BH_REASON_DECLINED, BH_REASON_OVERDUE}) {
			EXPECT_EQ(klass[reason].action, BH_ACTION_DENY);
			EXPECT_EQ(klass[reason].fallback, BH_ACTION_DENY);
		}
		EXPECT_EQ(klass[BH_REASON_CROWD].action, BH_ACTION_HOLD);
		EXPECT_EQ(klass[BH_REASON_CROWD].fallback, BH_ACTION_DENY);
	}
}

TEST(Policy, CheckRefusesWhatIsNoRule)
{
	for (uint32_t value = 0; value < 256; value++) {
		bh_policy policy;
		bh_policy_default(&policy);
		SetRule(&policy, BH_REASON_HUNG, value, BH_ACTION_DENY);
		EXPECT_EQ(bh_policy_check(&policy), value >= 1 && value <= 4 ? 0 : -1) << value;
		SetRule(&policy, BH_REASON_HUNG, BH_ACTION_HOLD, value);
		EXPECT_EQ(bh_policy_check(&policy), value == 1 || value == 2 ? 0 : -1) << value;
	}
}

class PolicyTable : public CoreTest
{
      protected:
	// Brings a call into each situation; not 0 when it ended at once.
	int Provoke(uint32_t reason, FakeChannel *target, bh_call *blocker, bh_call *call)
	{
		if (reason != BH_REASON_ABSENT)
			target->BeginGeneration(1);
		if (reason == BH_REASON_CROWD)
			blocker->opener = call->opener = 1001;
		if (reason == BH_REASON_FULL || reason == BH_REASON_CROWD)
			Start(blocker);
		const int ended = Start(call);
		if (reason == BH_REASON_POISON || reason == BH_REASON_OVERDUE)
			target->Begin(call->slot);
		if (reason == BH_REASON_DECLINED) {
			target->Decline(call->slot);
			return Step(call);
		}
		if (reason != BH_REASON_CRASHED && reason != BH_REASON_POISON)
			return ended;
		bh_channel_end_generation(target->c, 1, BH_END_CRASHED);
		return Step(call);
	}
};

TEST_F(PolicyTable, EveryActionForEveryReason)
{
	for (uint32_t reason = 0; reason < BH_REASON_COUNT; reason++) {
		for (uint32_t action = BH_ACTION_ALLOW; action <= BH_ACTION_CACHED; action++) {
			for (uint32_t fallback : {BH_ACTION_ALLOW, BH_ACTION_DENY}) {
				SCOPED_TRACE(std::to_string(reason) + "/" + std::to_string(action) +
					     "/" + std::to_string(fallback));
				bh_channel_config config = TestConfig();
				config.spec.geometry = {1, 1, 0, 0};
				config.poison_crashes = reason == BH_REASON_POISON ? 1 : 2;
				SetRule(&config.spec.policy, reason, action, fallback);
				FakeChannel target(&platform, config);
				Use(&target);
				bh_call blocker = FileCall(1, platform.now_ns + 100000);
				bh_call call = NewCall();
				const int ended = Provoke(reason, &target, &blocker, &call);
				// A host that serves has until the deadline; what is final has no
				// time.
				const bool waits = reason == BH_REASON_HUNG ||
						   reason == BH_REASON_OVERDUE;
				const bool final = reason == BH_REASON_POISON ||
						   reason == BH_REASON_DECLINED;
				const bool at_once = final || (action != BH_ACTION_HOLD && !waits);
				EXPECT_EQ(ended != 0, at_once);
				platform.now_ns = call.deadline_ns;
				ASSERT_EQ(Step(&call), 1);
				const bool allow = action == BH_ACTION_ALLOW ||
						   (action != BH_ACTION_DENY &&
						    fallback == BH_ACTION_ALLOW);
				ExpectPolicy(call, reason,
					     allow ? BH_VERDICT_ALLOW : BH_VERDICT_DENY);
				EXPECT_EQ(target.Statistics().by_policy[reason], 1u);
			}
		}
	}
}

TEST_F(PolicyTable, RulesAreByClass)
{
	for (auto &klass : channel.config.spec.policy.rule)
		klass[BH_REASON_ABSENT] = {BH_ACTION_ALLOW, BH_ACTION_ALLOW};
	SetPolicy(BH_REASON_ABSENT, BH_ACTION_DENY, BH_ACTION_ALLOW);
	bh_call call = NewCall();
	ASSERT_EQ(Start(&call), 1);
	ExpectPolicy(call, BH_REASON_ABSENT, BH_VERDICT_DENY);
}

} // namespace
} // namespace bulkhead
