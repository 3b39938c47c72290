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

/* The issue in this slot that the host of this generation has not answered; or none. */
static uint64_t unanswered(struct bh_channel *channel, uint32_t slot, uint32_t generation)
{
	uint64_t ticket = bh_load(&channel->slots[slot].ticket);

	/* Given up by its call, but not by the host. */
	if (ticket == BH_TICKET_NONE)
		ticket = bh_load(&channel->slots[slot].abandoned);
	if (bh_ticket_generation(ticket) != generation ||
	    !bh_load_relaxed(&channel->slots[slot].issued) ||
	    bh_load_acquire(&bh_reply_slot_at(channel, slot)->ticket) == ticket)
		return BH_TICKET_NONE;
	return ticket;
}

/* When an answer was taken last, if that was after this time; else this. A lane without answers for
 * weeks has a time that seems to come yet. */
static uint32_t last_answer(struct bh_channel *channel, uint32_t since, uint32_t now)
{
	uint32_t lane, answered;

	for (lane = 0; lane < channel->geometry.lanes; lane++) {
		answered = bh_load_relaxed(&channel->lanes[lane].answered);
		if (answered && bh_stamp_before(since, answered) && !bh_stamp_before(now, answered))
			since = answered;
	}
	return since;
}

/*
 * SUBTLE: slots are used again while we look. The stamps may be those of the slot's next issue:
 * they are later, and blame no host.
 */
int bh_host_hangs(struct bh_channel *channel, uint32_t generation, uint64_t now_ns)
{
	uint32_t now = bh_stamp(now_ns), slot, issued, hangs;
	int32_t longest = 0, silent = -1;
	uint64_t ticket;

	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = unanswered(channel, slot, generation);
		if (ticket == BH_TICKET_NONE)
			continue;
		issued = bh_load_relaxed(&channel->slots[slot].issued);
		hangs = bh_load_relaxed(&channel->slots[slot].hangs);
		if (!bh_stamp_before(now, hangs) && bh_begun(channel, slot, ticket))
			return 1;
		longest = bh_max_i32(longest, (int32_t)(hangs - issued));
		silent = bh_max_i32(silent, (int32_t)(now - last_answer(channel, issued, now)));
	}
	/*
	 * Where deadlines differ, a call with a longer one may keep the host from the others. An
	 * eighth less, because the times of an issue and of an answer may each be a coarse one.
	 */
	return silent >= 0 && silent + BH_STAMP_STEP >= longest - longest / 8;
}

/* Calls that the driver has begun and not answered, those that were given up among them. */
static uint32_t in_hand(struct bh_channel *channel, uint32_t generation)
{
	uint32_t slot, count = 0;
	uint64_t ticket;

	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load(&channel->slots[slot].ticket);
		if (ticket == BH_TICKET_NONE)
			ticket = bh_load(&channel->slots[slot].abandoned);
		count += bh_ticket_generation(ticket) == generation &&
			 bh_begun(channel, slot, ticket);
	}
	return count;
}

int bh_hangs_alone(struct bh_channel *channel, const struct bh_call *call, uint64_t now_ns)
{
	return bh_begun(channel, call->slot, call->ticket) &&
	       !bh_stamp_before(bh_stamp(now_ns),
				bh_load_relaxed(&channel->slots[call->slot].hangs)) &&
	       in_hand(channel, bh_ticket_generation(call->ticket)) == 1;
}

void bh_blame(struct bh_channel *channel, uint32_t generation, uint32_t end)
{
	uint64_t ticket;
	uint32_t slot;

	if (in_hand(channel, generation) == 1)
		end |= BH_FATE_ALONE;
	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load(&channel->slots[slot].ticket);
		if (bh_ticket_generation(ticket) == generation && bh_begun(channel, slot, ticket))
			bh_store_relaxed(&channel->slots[slot].fate, end | BH_FATE_BEGUN);
	}
}

enum bh_charge bh_charge_call(struct bh_call *call, uint32_t fate)
{
	struct bh_channel *channel = call->channel;
	int convicted = 0;

	if (!(fate & BH_FATE_BEGUN))
		return BH_CHARGE_REISSUE;
	switch (fate & 0xff) {
	case BH_END_CRASHED:
	case BH_END_HUNG:
		if (fate & BH_FATE_ALONE)
			convicted = bh_poison_strike(channel, call);
		bh_fallthrough;
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
	if (convicted || call->crashes >= channel->poison_crashes ||
	    call->kills >= channel->poison_kills)
		return BH_CHARGE_POISON;
	if (call->crashes)
		bh_suspect_join(call);
	return BH_CHARGE_REISSUE;
}
