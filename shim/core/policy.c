// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The operator's choice for calls that get no answer. */
#include "shim/core/internal.h"

void bh_policy_default(struct bh_policy *policy)
{
	uint32_t klass, reason;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++) {
		for (reason = 0; reason < BH_REASON_COUNT; reason++) {
			policy->rule[klass][reason].action = BH_ACTION_HOLD;
			policy->rule[klass][reason].fallback = BH_ACTION_ALLOW;
		}
		policy->rule[klass][BH_REASON_POISON].action = BH_ACTION_DENY;
		policy->rule[klass][BH_REASON_POISON].fallback = BH_ACTION_DENY;
	}
}

static int rule_valid(const struct bh_rule *rule)
{
	return rule->action >= BH_ACTION_ALLOW && rule->action <= BH_ACTION_CACHED &&
	       (rule->fallback == BH_ACTION_ALLOW || rule->fallback == BH_ACTION_DENY);
}

int bh_policy_check(const struct bh_policy *policy)
{
	uint32_t klass, reason;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		for (reason = 0; reason < BH_REASON_COUNT; reason++)
			if (!rule_valid(&policy->rule[klass][reason]))
				return -1;
	return 0;
}

/* SUBTLE: a policy may be set at the same time. A rule is one word: the load gets the old or the
 * new one. */
static uint16_t rule_of(struct bh_channel *channel, uint32_t callback, uint32_t reason)
{
	return bh_load_relaxed(&channel->rule[bh_callback_class(callback)][reason]);
}

static uint32_t verdict_of(uint32_t action)
{
	return action == BH_ACTION_ALLOW ? BH_VERDICT_ALLOW : BH_VERDICT_DENY;
}

uint32_t bh_policy_fallback(struct bh_channel *channel, uint32_t callback, uint32_t reason)
{
	return verdict_of(rule_of(channel, callback, reason) >> 8);
}

uint32_t bh_policy_decide(struct bh_channel *channel, const struct bh_call *call, uint32_t reason,
			  int final)
{
	uint32_t rule = rule_of(channel, call->callback, reason);
	uint32_t action = rule & 0xff;
	uint32_t verdict;

	if (action == BH_ACTION_HOLD && !final)
		return 0;
	if (action == BH_ACTION_CACHED) {
		verdict = bh_cache_find(&channel->cache, call, 0, 1);
		if (verdict)
			return verdict;
	}
	if (action == BH_ACTION_HOLD || action == BH_ACTION_CACHED)
		return verdict_of(rule >> 8);
	return verdict_of(action);
}
