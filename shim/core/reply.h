/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From bytes that a hostile host wrote to an answer that can be believed: copied once to private
 * memory, and judged there. Nothing else in the core reads a reply slot's contents.
 */
#ifndef BULKHEAD_SHIM_CORE_REPLY_H_
#define BULKHEAD_SHIM_CORE_REPLY_H_

#include "shim/core/bulkhead_core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A reply slot's contents in private memory. Still the host's word. */
struct bh_reply_copy {
	uint32_t status;
	uint16_t reply_bytes;
	uint16_t reserved;
	uint8_t reply[BH_INLINE_BYTES];
	uint64_t payload_bytes; /* 0 when no room was lent */
};

/* What the shim knows about the call that the reply is for. */
struct bh_reply_facts {
	uint32_t callback;
	uint64_t reply_capacity; /* bytes of room that were lent */
};

/* REQUIRES: the slot's ticket was read with acquire. Reads each byte exactly once. */
void bh_reply_copy_once(const struct bh_reply_slot *slot, const struct bh_reply_facts *facts,
			struct bh_reply_copy *copy);

/* Pure: no side effects, any bytes may be in the copy. enum bh_violation. */
uint32_t bh_reply_validate(const struct bh_reply_copy *copy, const struct bh_reply_facts *facts);

/* REQUIRES: bh_reply_validate() found nothing, status is BH_REPLY_DONE, the callback is deciding.
 */
struct bh_verdict_reply bh_reply_verdict(const struct bh_reply_copy *copy);

#ifdef __cplusplus
}
#endif
#endif /* BULKHEAD_SHIM_CORE_REPLY_H_ */
