// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Which calls a dead host had begun, and what that means for each. The record is the host's own:
 * a host that lies there can only harm its own driver's calls.
 *
 * A slot's issue was begun if `begun` is its ticket and the reply's ticket is not. Both words are
 * of the slot, and a ticket never repeats there, so that what an earlier issue or generation left
 * in them is taken for nothing. Issues are independent of each other: a host may have begun any
 * number of them, in any order.
 *
 * SUBTLE: the host stores `begun`, lets the driver have the call, and stores the reply's ticket.
 * When it is dead, all that it stored has arrived, and the order of our two loads makes no
 * difference. One that is detached but not dead may still write: an answer that comes between the
 * loads and the end of the generation is found by its caller, which looks for it before it looks at
 * the fate; what else is taken for begun then, such a host could have written anyway. What a dead
 * host wrote for generations after its own is gone: forget_planted_words().
 */
#include "shim/core/internal.h"

int bh_begun(struct bh_channel *channel, uint32_t slot, uint64_t ticket)
{
	const struct bh_reply_slot *reply = bh_reply_slot_at(channel, slot);

	return bh_load_acquire(&reply->begun) == ticket &&
	       bh_load_acquire(&reply->ticket) != ticket;
}

void bh_blame(struct bh_channel *channel, uint32_t generation, uint32_t end)
{
	uint64_t ticket;
	uint32_t slot;

	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load(&channel->slots[slot].ticket);
		if (bh_ticket_generation(ticket) == generation && bh_begun(channel, slot, ticket))
			bh_store_relaxed(&channel->slots[slot].fate, end | BH_FATE_BEGUN);
	}
}

enum bh_charge bh_charge_call(struct bh_call *call, uint32_t fate)
{
	struct bh_channel *channel = call->channel;

	if (!(fate & BH_FATE_BEGUN))
		return BH_CHARGE_REISSUE;
	switch (fate & 0xff) {
	case BH_END_CRASHED:
	case BH_END_HUNG:
	case BH_END_HOSTILE:
		call->crashes++;
		break;
	case BH_END_KILLED:
		call->kills++;
		break;
	default:
		break;
	}
	if (call->reissue != BH_REISSUE_FREELY)
		return BH_CHARGE_UNKNOWN;
	if (call->crashes >= channel->poison_crashes || call->kills >= channel->poison_kills)
		return BH_CHARGE_POISON;
	if (call->crashes)
		bh_suspect_join(call);
	return BH_CHARGE_REISSUE;
}
