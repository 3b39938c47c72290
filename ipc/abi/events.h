/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a shim raises for its supervisor, and why a supervisor starts a generation. Rows as in
 * policy.h: X(id, NAME, name, doc).
 */
#ifndef BULKHEAD_IPC_ABI_EVENTS_H_
#define BULKHEAD_IPC_ABI_EVENTS_H_

#include "ipc/abi/types.h"

/* clang-format off */
/* Raised in a caller's context. */
#define BH_FOR_EACH_EVENT(X) \
	X(1, HUNG, hung, "a host has not answered a call for as long as it may take; detail: that time in ms") \
	X(2, VIOLATION, violation, "a reply that breaks the protocol; detail is the violation") \
	X(3, POISON, poison, "a call was quarantined")

#define BH_FOR_EACH_VIOLATION(X) \
	X(0, NONE, none, "the reply is as it must be") \
	X(1, STATUS, status, "a status that is no reply status") \
	X(2, REPLY_BYTES, reply_bytes, "more inline bytes than a line holds, or not the callback's") \
	X(3, VERDICT, verdict, "a verdict that is neither allow nor deny") \
	X(4, CACHEABILITY, cacheability, "a cacheability that does not exist") \
	X(5, PAYLOAD_BYTES, payload_bytes, "more payload than the room that was lent") \
	X(6, BELL, bell, "the caller was woken again and again without an answer") \
	X(7, ERROR, error, "an errno that no caller may get, or one beside a verdict that allows")

#define BH_FOR_EACH_START(X) \
	X(1, COLD, cold, "the first generation") \
	X(2, CRASH_RESTART, crash_restart, "the generation before crashed, hung or was killed") \
	X(3, UPGRADE, upgrade, "new driver or new content; or back to the last good one")
/* clang-format on */

#define BH_EVENT_ENUM_ROW(id, NAME, name, doc) BH_EVENT_##NAME = (id),
enum bh_event {
	BH_FOR_EACH_EVENT(BH_EVENT_ENUM_ROW)
};

#define BH_VIOLATION_ENUM_ROW(id, NAME, name, doc) BH_VIOLATION_##NAME = (id),
enum bh_violation {
	BH_FOR_EACH_VIOLATION(BH_VIOLATION_ENUM_ROW)
};

#define BH_START_ENUM_ROW(id, NAME, name, doc) BH_START_##NAME = (id),
enum bh_start {
	BH_FOR_EACH_START(BH_START_ENUM_ROW)
};

#define BH_USERS_MAX 29u
#define BH_USER_ANY 0xffffffffu
/* Ids from here on are no accounts on most machines, and one user may have files of any number of
 * them (user namespaces, subuid(5)): as owners they are all the same. */
#define BH_USER_BEYOND 65537u
/*
 * Users that the calls are of which a host had in hand when it ended: openers, and owners of files.
 * A user is an id + 1, so that root is 1; 0: not known.
 */
struct bh_in_hand {
	uint32_t count; /* of `users`; more than BH_USERS_MAX: and others */
	/* Each once. Root only for a call that no other user has to do with. */
	uint32_t users[BH_USERS_MAX];
	/* What is quarantined now: calls of this opener; both 0: none are; */
	uint32_t convicted_opener;
	uint32_t convicted_owner; /* about files of this owner; BH_USER_ANY: of any */
};
BH_ASSERT_SIZE(struct bh_in_hand, 128);
BH_ASSERT_TRIVIAL(struct bh_in_hand);

static inline int bh_start_known(uint32_t reason)
{
	return reason < 32 && ((0u BH_FOR_EACH_START(BH_ROW_BIT)) >> reason & 1);
}

#endif /* BULKHEAD_IPC_ABI_EVENTS_H_ */
