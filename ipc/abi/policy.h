/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Why a call gets no answer from its driver, what the operator wants to happen then, and whether
 * denials are enforced.
 *
 * Each list below is the one place of its values: a row is X(id, NAME, name, doc). The enums, the
 * names (names.h), the command line's words and the tables in docs/ are made from the rows. Ids
 * are never reused.
 */
#ifndef BULKHEAD_IPC_ABI_POLICY_H_
#define BULKHEAD_IPC_ABI_POLICY_H_

#include "ipc/abi/callbacks.h"
#include "ipc/abi/types.h"

/* clang-format off */
#define BH_FOR_EACH_REASON(X) \
	X(0, ABSENT, absent, "no host serves: not started, stopped, driver quarantined") \
	X(1, CRASHED, crashed, "the host crashed or was killed, and no other served by the deadline") \
	X(2, HUNG, hung, "the host takes no calls, or was killed for that and no other served in time") \
	X(3, FULL, full, "the driver did not get to the call by the deadline, or there was no room for it") \
	X(4, POISON, poison, "the call is quarantined: it, or one like it, used up its budget of hosts") \
	X(5, DECLINED, declined, "the driver had the call and declined to answer") \
	X(6, OVERDUE, overdue, "the driver had the call in hand, and neither it nor a later host answered in time") \
	X(7, CROWD, crowd, "its own user kept it from a turn: with as many calls as one user may have, or with some that ended hosts")

#define BH_FOR_EACH_ACTION(X) \
	X(1, ALLOW, allow, "allow at once") \
	X(2, DENY, deny, "deny at once") \
	X(3, HOLD, hold, "wait for a host until the deadline, then the rule's fallback") \
	X(4, CACHED, cached, "the last verdict known for the object, else the rule's fallback")

#define BH_FOR_EACH_MODE(X) \
	X(0, ENFORCE, enforce, "a denial denies") \
	X(1, AUDIT, audit, "a denial is counted and recorded, and the call goes on as if it were allowed")
/* clang-format on */

#define BH_REASON_ENUM_ROW(id, NAME, name, doc) BH_REASON_##NAME = (id),
enum bh_reason {
	BH_FOR_EACH_REASON(BH_REASON_ENUM_ROW)
};

#define BH_ACTION_ENUM_ROW(id, NAME, name, doc) BH_ACTION_##NAME = (id),
enum bh_action {
	BH_FOR_EACH_ACTION(BH_ACTION_ENUM_ROW)
};

#define BH_MODE_ENUM_ROW(id, NAME, name, doc) BH_MODE_##NAME = (id),
enum bh_mode {
	BH_FOR_EACH_MODE(BH_MODE_ENUM_ROW)
};

/* Reasons are the indexes of a table. */
enum {
	BH_REASON_COUNT = 0 BH_FOR_EACH_REASON(BH_ROW_COUNT)
};

struct bh_rule {
	uint8_t action;   /* enum bh_action */
	uint8_t fallback; /* BH_ACTION_ALLOW or BH_ACTION_DENY */
};

/* Travels to the fanotify shim, to the kernel module and into the journal as it is. */
struct bh_policy {
	struct bh_rule rule[BH_CLASS_COUNT][BH_REASON_COUNT];
	uint8_t mode; /* enum bh_mode: of the driver's verdicts, and of what the rules above deny */
	uint8_t reserved[3];
};
BH_ASSERT_SIZE(struct bh_policy, 2 * BH_CLASS_COUNT * BH_REASON_COUNT + 4);
BH_ASSERT_TRIVIAL(struct bh_policy);

/*
 * Whether the reason lies in what the call is about, or in its user. An attacker can bring
 * about each of these with a file of his choice or with more opens, so that what a driver never
 * decided must not go through for them.
 */
static inline int bh_reason_is_suspicious(uint32_t reason)
{
	return reason == BH_REASON_POISON || reason == BH_REASON_DECLINED ||
	       reason == BH_REASON_OVERDUE || reason == BH_REASON_CROWD;
}

/* Hold what never had a turn, then allow. Deny what is suspicious: at once, where there is nothing
 * to hold for. */
static inline void bh_policy_default(struct bh_policy *policy)
{
	uint32_t klass, reason;
	int suspicious;

	policy->mode = BH_MODE_ENFORCE;
	policy->reserved[0] = policy->reserved[1] = policy->reserved[2] = 0;
	for (klass = 0; klass < BH_CLASS_COUNT; klass++) {
		for (reason = 0; reason < BH_REASON_COUNT; reason++) {
			suspicious = bh_reason_is_suspicious(reason);
			policy->rule[klass][reason].action = suspicious && reason != BH_REASON_CROWD
								     ? BH_ACTION_DENY
								     : BH_ACTION_HOLD;
			policy->rule[klass][reason].fallback = suspicious ? BH_ACTION_DENY
									  : BH_ACTION_ALLOW;
		}
	}
}

static inline int bh_action_known(uint32_t action)
{
	return action < 32 && ((0u BH_FOR_EACH_ACTION(BH_ROW_BIT)) >> action & 1);
}

static inline int bh_rule_valid(const struct bh_rule *rule)
{
	return bh_action_known(rule->action) &&
	       (rule->fallback == BH_ACTION_ALLOW || rule->fallback == BH_ACTION_DENY);
}

/* Whether some call is allowed that no driver has decided, for this reason. */
static inline int bh_policy_may_allow(const struct bh_policy *policy, uint32_t reason)
{
	uint32_t klass;

	if (policy->mode == BH_MODE_AUDIT)
		return 1;
	for (klass = 0; klass < BH_CLASS_COUNT; klass++) {
		const struct bh_rule *rule = &policy->rule[klass][reason];

		if (rule->action == BH_ACTION_ALLOW ||
		    (rule->action != BH_ACTION_DENY && rule->fallback == BH_ACTION_ALLOW))
			return 1;
	}
	return 0;
}

static inline int bh_mode_known(uint32_t mode)
{
	return mode < 32 && ((0u BH_FOR_EACH_MODE(BH_ROW_BIT)) >> mode & 1);
}

/* 0, or -1 when a rule or the mode has a value that is not one of the above. */
static inline int bh_policy_check(const struct bh_policy *policy)
{
	uint32_t klass, reason;

	if (!bh_mode_known(policy->mode))
		return -1;
	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		for (reason = 0; reason < BH_REASON_COUNT; reason++)
			if (!bh_rule_valid(&policy->rule[klass][reason]))
				return -1;
	return 0;
}

#endif /* BULKHEAD_IPC_ABI_POLICY_H_ */
