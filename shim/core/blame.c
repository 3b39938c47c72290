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

/* A slot with what the driver has in hand, when all that is about one object; else none. */
static uint32_t alone_in_hand(struct bh_channel *channel, uint32_t generation)
{
	uint64_t device = 0, inode = 0, other_device, other_inode, ticket;
	uint32_t slot, found = BH_SLOT_NONE;

	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = unanswered(channel, slot, generation);
		if (ticket == BH_TICKET_NONE || !bh_begun(channel, slot, ticket))
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

static void add_user(struct bh_in_hand *in_hand, uint32_t user)
{
	uint32_t i;

	for (i = 0; i < in_hand->count && i < BH_USERS_MAX; i++)
		if (in_hand->users[i] == user)
			return;
	if (i < BH_USERS_MAX)
		in_hand->users[i] = user;
	if (in_hand->count <= BH_USERS_MAX)
		in_hand->count++;
}

/* Whose the call in this slot is; of a slot that is used again it is not known. */
static void users_of(struct bh_channel *channel, uint32_t slot, uint64_t ticket, uint32_t *opener,
		     uint32_t *owner)
{
	const struct bh_call_slot *shared = bh_call_slot_at(channel, slot);
	int known = bh_load_acquire(&shared->ticket) == ticket;

	*opener = known ? bh_load_relaxed(&shared->opener) : 0;
	*owner = known ? bh_owner_of(bh_load_relaxed(&shared->owner)) : 0;
}

/* The slots from *slot on that have calls in the driver's hands. Those that gave up waiting count,
 * too: what they asked about is there. */
static int next_in_hand(struct bh_channel *channel, uint32_t generation, uint32_t *slot,
			uint32_t *opener, uint32_t *owner)
{
	uint64_t ticket;

	for (; *slot < channel->slot_count; ++*slot) {
		ticket = unanswered(channel, *slot, generation);
		if (ticket == BH_TICKET_NONE || !bh_begun(channel, *slot, ticket))
			continue;
		users_of(channel, *slot, ticket, opener, owner);
		return 1;
	}
	return 0;
}

struct bh_pair {
	uint32_t opener;
	uint32_t owner;
};

/* Of the pairs in hand, each once: how many are named, and whether there are others. */
static uint32_t pairs_in_hand(struct bh_channel *channel, uint32_t generation,
			      struct bh_pair pairs[BH_USERS_MAX], int *others)
{
	uint32_t slot, opener, owner, i, count = 0;

	*others = 0;
	for (slot = 0; next_in_hand(channel, generation, &slot, &opener, &owner); slot++) {
		for (i = 0; i < count; i++)
			if (pairs[i].opener == opener && pairs[i].owner == owner)
				break;
		if (i < count)
			continue;
		if (count == BH_USERS_MAX) {
			*others = 1;
			break;
		}
		pairs[count++] = (struct bh_pair){opener, owner};
	}
	return count;
}

static void tell_users(struct bh_in_hand *in_hand, const struct bh_pair *pairs, uint32_t count,
		       int others)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		if (pairs[i].opener > BH_OPENER_ROOT)
			add_user(in_hand, pairs[i].opener);
		if (pairs[i].owner > BH_OPENER_ROOT)
			add_user(in_hand, pairs[i].owner);
		else if (pairs[i].opener <= BH_OPENER_ROOT)
			add_user(in_hand, pairs[i].owner);
	}
	if (others)
		in_hand->count = BH_USERS_MAX + 1;
}

static void strike(struct bh_channel *channel, uint32_t opener, uint32_t owner, int alone,
		   uint64_t now_ns)
{
	if (!bh_user_strike(channel, opener, owner, alone, now_ns))
		return;
	channel->in_hand.convicted_opener = opener;
	channel->in_hand.convicted_owner = owner;
}

static void strike_users(struct bh_channel *channel, const struct bh_pair *pairs, uint32_t count,
			 int others, uint64_t now_ns)
{
	uint32_t i, j, first_of_opener, openers = 0;

	for (i = 0; i < count; i++)
		if (pairs[i].opener > BH_OPENER_ROOT || pairs[i].owner > BH_OPENER_ROOT)
			strike(channel, pairs[i].opener, pairs[i].owner, count == 1 && !others,
			       now_ns);
	for (i = 0; i < count; i++)
		openers += pairs[i].opener != pairs[0].opener;
	for (i = 0; i < count; i++) {
		first_of_opener = 1;
		for (j = 0; j < i; j++)
			first_of_opener &= pairs[j].opener != pairs[i].opener;
		if (first_of_opener && pairs[i].opener > BH_OPENER_ROOT)
			strike(channel, pairs[i].opener, BH_USER_ANY, !openers && !others, now_ns);
	}
}

/* Of a driver that has never answered, whose calls they were explains nothing. */
static void blame_users(struct bh_channel *channel, uint32_t generation, uint64_t now_ns)
{
	struct bh_pair pairs[BH_USERS_MAX];
	uint32_t count;
	int others;

	if (!bh_has_answered(channel))
		return;
	count = pairs_in_hand(channel, generation, pairs, &others);
	tell_users(&channel->in_hand, pairs, count, others);
	strike_users(channel, pairs, count, others, now_ns);
}

int bh_blame(struct bh_channel *channel, uint32_t generation, uint32_t end, uint64_t now_ns)
{
	uint32_t slot, alone = BH_SLOT_NONE;
	uint64_t ticket;

	bh_zero(&channel->in_hand, sizeof(channel->in_hand));
	channel->fallen = generation;
	if (end == BH_END_CRASHED || end == BH_END_HUNG || end == BH_END_STARVED) {
		alone = alone_in_hand(channel, generation);
		blame_users(channel, generation, now_ns);
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
	    (bh_load_relaxed(&channel->poison_known) &&
	     bh_poison_find(channel, call) == BH_CONVICTED))
		return BH_CHARGE_POISON;
	if (call->crashes)
		bh_suspect_join(call);
	return BH_CHARGE_REISSUE;
}
