// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "shim/core/reply.h"

#include "shim/core/bh_platform.h"

#define BH_REPLY_WORDS 7 /* of line 0, without its ticket */

BH_STATIC_ASSERT(offsetof(struct bh_reply_copy, payload_bytes) == BH_REPLY_WORDS * sizeof(uint64_t),
		 "the copy has the fields of line 0 in their order");
BH_STATIC_ASSERT(offsetof(struct bh_reply_slot, status) == sizeof(uint64_t),
		 "the ticket is the first word of line 0");

/*
 * SUBTLE: the host may write while we read. Each word is loaded once, so what is judged is what is
 * used; a torn answer is an answer of a host that broke the protocol, and judged as such.
 */
void bh_reply_copy_once(const struct bh_reply_slot *slot, const struct bh_reply_facts *facts,
			struct bh_reply_copy *copy)
{
	bh_copy_words(copy, &slot->status, BH_REPLY_WORDS * sizeof(uint64_t));
	/* Line 1 costs a transfer: not touched unless room was lent. */
	copy->payload_bytes = facts->reply_capacity ? bh_load_relaxed(&slot->payload_bytes) : 0;
}

struct bh_verdict_reply bh_reply_verdict(const struct bh_reply_copy *copy)
{
	struct bh_verdict_reply verdict;

	bh_copy(&verdict, copy->reply, sizeof(verdict));
	return verdict;
}

static uint32_t validate_verdict(const struct bh_reply_copy *copy)
{
	struct bh_verdict_reply verdict;

	if (copy->reply_bytes < sizeof(verdict)) /* what is behind it is the driver's reason */
		return BH_VIOLATION_REPLY_BYTES;
	verdict = bh_reply_verdict(copy);
	if (verdict.verdict != BH_VERDICT_ALLOW && verdict.verdict != BH_VERDICT_DENY)
		return BH_VIOLATION_VERDICT;
	if (verdict.cacheability != BH_CACHE_NOT && verdict.cacheability != BH_CACHE_OBJECT)
		return BH_VIOLATION_CACHEABILITY;
	if (verdict.error && (verdict.verdict != BH_VERDICT_DENY || !bh_error_valid(verdict.error)))
		return BH_VIOLATION_ERROR;
	return BH_VIOLATION_NONE;
}

uint32_t bh_reply_validate(const struct bh_reply_copy *copy, const struct bh_reply_facts *facts)
{
	uint32_t violation;

	if (copy->status == BH_REPLY_DECLINED)
		return BH_VIOLATION_NONE;
	if (copy->status != BH_REPLY_DONE)
		return BH_VIOLATION_STATUS;
	if (copy->reply_bytes > BH_INLINE_BYTES)
		return BH_VIOLATION_REPLY_BYTES;
	if (bh_callback_kind(facts->callback) == BH_CALLBACK_DECIDES) {
		violation = validate_verdict(copy);
		if (violation != BH_VIOLATION_NONE)
			return violation;
	}
	if (copy->payload_bytes > facts->reply_capacity)
		return BH_VIOLATION_PAYLOAD_BYTES;
	return BH_VIOLATION_NONE;
}
