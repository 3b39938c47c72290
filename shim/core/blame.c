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

/* What the host of this generation has not answered in this slot, whether its call still waits for
 * it or not; or none. */
static uint64_t unanswered(struct bh_channel *channel, uint32_t slot, uint32_t generation)
{
	uint64_t ticket = bh_load(&channel->slots[slot].ticket);

	if (ticket == BH_TICKET_NONE)
		ticket = bh_load(&channel->slots[slot].abandoned);
	if (bh_ticket_generation(ticket) != generation ||
	    bh_load_acquire(&bh_reply_slot_at(channel, slot)->ticket) == ticket)
		return BH_TICKET_NONE;
	return ticket;
}

/* When the last answer was taken; 0: never. Of an answer of just now, which another CPU may have
 * taken a moment ahead of us, this is `now`. */
static uint32_t last_answer(struct bh_channel *channel, uint32_t now)
{
	uint32_t lane, answered, last = 0;

	for (lane = 0; lane < channel->geometry.lanes; lane++) {
		answered = bh_load_relaxed(&channel->lanes[lane].answered);
		if (answered && answered - now < BH_STAMPS_AHEAD)
			return now;
		/* Further ahead is weeks ago. */
		if (answered && !bh_stamp_before(now, answered) &&
		    (!last || bh_stamp_before(last, answered)))
			last = answered;
	}
	return last;
}

/*
 * When a call came to the driver is not told; it is in hand from when it is first seen there, here.
 * So one that comes to the driver late is not held against it before it has had its time.
 *
 * SUBTLE: slots are used again while we look. The stamps may be those of the slot's next issue:
 * they are later, and blame no host.
 */
int bh_host_hangs(struct bh_channel *channel, uint32_t generation, uint64_t now_ns)
{
	int32_t budget = (int32_t)bh_load_relaxed(&channel->budget);
	uint32_t now = bh_stamp(now_ns), last, since, seen, slot;
	int hangs = 0;
	uint64_t ticket;

	if (!budget) /* no call of this generation has an end to its time */
		return 0;
	/* An eighth less: the times of an issue and of an answer may each be coarse. */
	budget -= budget / 8 + BH_STAMP_STEP;
	bh_slots_reclaim(channel); /* counts late answers, which are answers */
	last = last_answer(channel, now);
	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = unanswered(channel, slot, generation);
		since = bh_load_relaxed(&channel->slots[slot].issued);
		if (ticket == BH_TICKET_NONE || !since)
			continue;
		if (last && bh_stamp_before(since, last))
			since = last;
		hangs |= (int32_t)(now - since) >= budget;
		if (!bh_begun(channel, slot, ticket))
			continue;
		seen = bh_load_relaxed(&channel->slots[slot].seen);
		if (seen)
			hangs |= (int32_t)(now - seen) >= budget;
		else
			bh_store_relaxed(&channel->slots[slot].seen, now);
	}
	return hangs;
}

/* The object that a call is about, from the shim's own copy of its arguments; -1: about none. */
static int object_of(struct bh_channel *channel, uint32_t slot, uint64_t ticket, uint64_t *device,
		     uint64_t *inode)
{
	const struct bh_call_slot *shared = bh_call_slot_at(channel, slot);
	struct bh_file_args args;

	/* Its caller has stored the arguments before the ticket. */
	if (bh_load_acquire(&shared->ticket) != ticket ||
	    !(bh_callback_flags(shared->callback) & BH_CALLBACK_ABOUT_OBJECT))
		return -1;
	bh_copy(&args, shared->args, sizeof(args));
	*device = args.device;
	*inode = args.inode;
	return 0;
}

uint64_t bh_had_in_hand(struct bh_channel *channel, uint32_t slot, uint32_t generation,
			int violated)
{
	const struct bh_slot *s = &channel->slots[slot];
	uint64_t ticket;

	if (violated) {
		ticket = bh_load(&s->abandoned);
		return bh_ticket_generation(ticket) == generation &&
				       (bh_load_relaxed(&s->fate) & BH_FATE_VIOLATED)
			       ? ticket
			       : BH_TICKET_NONE;
	}
	ticket = unanswered(channel, slot, generation);
	return ticket != BH_TICKET_NONE && bh_begun(channel, slot, ticket) ? ticket
									   : BH_TICKET_NONE;
}

/* Not 0: the host of this generation gave answers that break the protocol. */
static int has_violated(struct bh_channel *channel, uint32_t generation)
{
	uint32_t slot;

	for (slot = 0; slot < channel->slot_count; slot++)
		if (bh_had_in_hand(channel, slot, generation, 1) != BH_TICKET_NONE)
			return 1;
	return 0;
}

/* A slot with what the driver has in hand, when all that is about one object; else none. */
static uint32_t alone_in_hand(struct bh_channel *channel, uint32_t generation, int violated)
{
	uint64_t device = 0, inode = 0, other_device, other_inode, ticket;
	uint32_t slot, found = BH_SLOT_NONE;

	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_had_in_hand(channel, slot, generation, violated);
		if (ticket == BH_TICKET_NONE)
			continue;
		if (object_of(channel, slot, ticket, &other_device, &other_inode))
			return BH_SLOT_NONE;
		if (found == BH_SLOT_NONE) {
			found = slot;
			device = other_device;
			inode = other_inode;
		} else if (device != other_device || inode != other_inode) {
			return BH_SLOT_NONE;
		}
	}
	return found;
}

int bh_blame(struct bh_channel *channel, uint32_t generation, uint32_t end, uint64_t now_ns)
{
	int violated = end == BH_END_HOSTILE && has_violated(channel, generation);
	uint32_t slot, alone = BH_SLOT_NONE;
	uint64_t ticket;

	bh_zero(&channel->in_hand, sizeof(channel->in_hand));
	channel->fallen = generation;
	if (end == BH_END_CRASHED || end == BH_END_HUNG || end == BH_END_STARVED ||
	    end == BH_END_HOSTILE) {
		alone = alone_in_hand(channel, generation, violated);
		bh_users_blame(channel, generation, violated, now_ns);
	}
	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load(&channel->slots[slot].ticket);
		if (bh_ticket_generation(ticket) == generation && bh_begun(channel, slot, ticket))
			bh_store_relaxed(&channel->slots[slot].fate, end | BH_FATE_BEGUN);
	}
	return alone != BH_SLOT_NONE && bh_poison_strike(channel, alone);
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
	case BH_END_STARVED:
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
	if (call->crashes >= channel->poison_crashes || call->kills >= channel->poison_kills ||
	    (bh_load_relaxed(&channel->guilt_known) &&
	     bh_poison_find(channel, call) == BH_CONVICTED))
		return BH_CHARGE_POISON;
	if (call->crashes)
		bh_suspect_join(call);
	return BH_CHARGE_REISSUE;
}
