// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The operator's choice for calls that get no answer. */
#include "shim/core/internal.h"

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

int bh_policy_holds(struct bh_channel *channel, uint32_t callback, uint32_t reason)
{
	return (rule_of(channel, callback, reason) & 0xff) == BH_ACTION_HOLD;
}

uint32_t bh_policy_fallback(struct bh_channel *channel, uint32_t callback, uint32_t reason)
{
	return verdict_of(rule_of(channel, callback, reason) >> 8);
}

uint32_t bh_policy_last_word(struct bh_channel *channel, uint32_t callback, uint32_t reason)
{
	uint32_t rule = rule_of(channel, callback, reason);
	uint32_t action = rule & 0xff;

	if (action == BH_ACTION_HOLD || action == BH_ACTION_CACHED)
		return verdict_of(rule >> 8);
	return verdict_of(action);
}

uint32_t bh_policy_decide(struct bh_channel *channel, const struct bh_call *call, uint32_t reason,
			  int final, uint32_t *error, int *known)
{
	uint32_t rule = rule_of(channel, call->callback, reason);
	uint32_t action = rule & 0xff;
	uint32_t verdict;

	*known = 0;
	if (action == BH_ACTION_HOLD && !final)
		return 0;
	if (action == BH_ACTION_CACHED) {
		verdict = bh_cache_find(&channel->cache, call, 0, 1, error);
		if (verdict) {
			*known = 1;
			return verdict;
		}
	}
	if (action == BH_ACTION_HOLD || action == BH_ACTION_CACHED)
		return verdict_of(rule >> 8);
	return verdict_of(action);
}
