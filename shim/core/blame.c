// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Which calls a dead host had begun, and what that means for each. The record is the host's own:
 * a host that lies there can only harm its own driver's calls.
 *
 * SUBTLE: so can one that is detached but not dead yet, and still writes. Where a ticket and a slot
 * were not in a line at once, its worker has gone on, so that the call was answered; what else is
 * taken for begun then is what such a host could have written anyway.
 */
#include "shim/core/internal.h"

/* What a worker had in hand. A ticket is unique within its slot, so it takes both to name an issue.
 */
struct in_hand {
	uint64_t ticket;
	uint32_t slot;
};

static int begun(const struct in_hand *hands, uint32_t slot, uint64_t ticket)
{
	uint32_t worker;

	for (worker = 0; worker < BH_WORKERS_MAX; worker++)
		if (hands[worker].ticket == ticket && hands[worker].slot == slot)
			return 1;
	return 0;
}

void bh_blame(struct bh_channel *channel, uint32_t generation, uint32_t end)
{
	const struct bh_worker_line *line;
	struct in_hand hands[BH_WORKERS_MAX];
	uint64_t ticket;
	uint32_t worker, slot;

	for (worker = 0; worker < BH_WORKERS_MAX; worker++) {
		line = (const void *)(channel->reply_region + bh_worker_line_offset(worker));
		hands[worker].ticket = bh_load_acquire(&line->ticket);
		hands[worker].slot = bh_load_relaxed(&line->slot);
	}
	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load(&channel->slots[slot].ticket);
		/* An answer that was stored needs no blame: its caller will find it. */
		if (bh_ticket_generation(ticket) == generation &&
		    bh_load_acquire(&bh_reply_slot_at(channel, slot)->ticket) != ticket &&
		    begun(hands, slot, ticket))
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
