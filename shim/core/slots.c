// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The free slots. A caller gets the lowest free slot of its lane, so that a lane with one caller
 * uses one slot, whose lines stay in both sides' caches.
 *
 * SUBTLE: relaxed stores to a slot are made by its owner, before the exchange that gives the slot
 * up or back. A concurrent reader may get the old word: the code that ends a generation then blames
 * an issue that has ended, and no caller asks about that issue any more.
 */
#include "shim/core/internal.h"

/*
 * A lane's last quarter is for openers that hold little of the lane: an opener that holds as many
 * slots as are left gets none of it. So an opener with calls without number leaves room for others,
 * each of them for the next, and the last slot is for an opener that holds none.
 *
 * SUBTLE: slots change hands while we count, and one that was taken a moment ago still has its last
 * opener: a share is a slot or two too large or too small.
 */
static BH_COLD int has_its_share(struct bh_channel *channel, uint32_t lane, uint64_t free,
				 uint32_t opener)
{
	uint32_t slots = channel->geometry.slots_per_lane, held = 0, left = 0, i;

	if (!opener)
		return 0;
	for (i = 0; i < slots; i++) {
		if (free >> i & 1)
			left++;
		else
			held += bh_load_relaxed(
					&bh_call_slot_at(channel, lane * slots + i)->opener) ==
				opener;
	}
	return held && held >= left;
}

static uint32_t acquire_in_lane(struct bh_channel *channel, uint32_t lane, uint32_t opener)
{
	uint32_t slots = channel->geometry.slots_per_lane, slot;
	uint64_t *free = &channel->lanes[lane].free;
	uint64_t found = bh_load(free);

	while (found) {
		slot = (uint32_t)__builtin_ctzll(found);
		if (bh_unlikely(slot >= slots - slots / 4) &&
		    has_its_share(channel, lane, found, opener))
			break;
		if (bh_compare_exchange(free, &found, found & (found - 1)))
			return lane * slots + slot;
	}
	return BH_SLOT_NONE;
}

static BH_COLD uint32_t acquire_anywhere(struct bh_channel *channel, uint32_t lane, uint32_t opener)
{
	uint32_t i, slot;

	for (i = 0; i < channel->geometry.lanes; i++) {
		slot = acquire_in_lane(channel, lane, opener);
		if (slot != BH_SLOT_NONE)
			return slot;
		if (++lane == channel->geometry.lanes)
			lane = 0;
	}
	return BH_SLOT_NONE;
}

uint32_t bh_slot_acquire(struct bh_channel *channel, uint32_t lane, uint32_t opener)
{
	uint32_t slot = acquire_in_lane(channel, lane, opener);

	if (slot != BH_SLOT_NONE)
		return slot;
	slot = acquire_anywhere(channel, lane, opener);
	if (slot == BH_SLOT_NONE && bh_load_relaxed(&channel->abandoned_count)) {
		bh_slots_reclaim(channel);
		slot = acquire_anywhere(channel, lane, opener);
	}
	return slot;
}

/* SUBTLE: a stamp of more than BH_STAMPS_AHEAD after the visit is one of weeks ago, or none. */
static int issued_since(const struct bh_slot *slot, uint32_t visit)
{
	return bh_load_relaxed(&slot->issued) - visit - 1 < BH_STAMPS_AHEAD;
}

int bh_opener_crowds(struct bh_channel *channel, const struct bh_call *call)
{
	uint32_t own = call->state == BH_CALL_ISSUED ? call->slot : BH_SLOT_NONE, slot, turns = 0;
	uint32_t visit = bh_stamp(call->visit_ns);

	for (slot = 0; slot < channel->slot_count; slot++) {
		const struct bh_slot *s = &channel->slots[slot];

		if (slot == own ||
		    bh_load_relaxed(&bh_call_slot_at(channel, slot)->opener) != call->opener)
			continue;
		if (bh_load_relaxed(&s->ticket) != BH_TICKET_NONE ||
		    bh_load_relaxed(&s->abandoned) != BH_TICKET_NONE)
			return 1;
		/* Its own slot of before a host fell is none of the others'. */
		turns += !call->attempts && issued_since(s, visit);
	}
	return 4 * turns >= channel->geometry.slots_per_lane && turns;
}

void bh_room_enter(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;
	uint32_t index = bh_room_queue_of(call);
	struct bh_room_queue *queue = &channel->room[index];

	/*
	 * SUBTLE: whose queue it is before its count, and the counts before the look for room that
	 * follows: a thread that frees something and does not see these has freed it before that
	 * look.
	 */
	bh_lock_take(&channel->lock);
	if (!queue->waiters) {
		queue->opener = call->opener;
		bh_exchange(&queue->mixed, index == BH_ROOM_SUSPECTS);
	} else if (queue->opener != call->opener) {
		bh_exchange(&queue->mixed, 1u);
	}
	bh_add_fetch(&queue->waiters, 1u);
	bh_lock_drop(&channel->lock);
	bh_add_fetch(&channel->room_waiters, 1u);
	call->announced = (uint8_t)(index + 1);
}

static void wake_queue(struct bh_channel *channel, struct bh_room_queue *queue)
{
	const struct bh_platform *platform = channel->platform;

	if (!bh_load(&queue->waiters))
		return;
	bh_add_fetch(&queue->freed, 1u);
	platform->wake(platform->context, &queue->freed, 0,
		       bh_load(&queue->mixed) ? BH_WAKE_ALL : 1);
}

void bh_room_leave(struct bh_call *call, int served)
{
	struct bh_channel *channel = call->channel;
	struct bh_room_queue *queue = &channel->room[call->announced - 1];

	call->announced = 0;
	bh_sub_fetch(&channel->room_waiters, 1u);
	bh_lock_take(&channel->lock);
	bh_sub_fetch(&queue->waiters, 1u);
	bh_lock_drop(&channel->lock);
	if (!served)
		wake_queue(channel, queue);
}

void bh_room_freed(struct bh_channel *channel)
{
	uint32_t i;

	if (!bh_load(&channel->room_waiters))
		return;
	for (i = 0; i < BH_ROOM_QUEUES; i++)
		wake_queue(channel, &channel->room[i]);
}

void bh_room_look_again(struct bh_channel *channel)
{
	const struct bh_platform *platform = channel->platform;
	uint32_t i;

	for (i = 0; i < BH_ROOM_QUEUES; i++) {
		bh_add_fetch(&channel->room[i].freed, 1u);
		if (bh_load(&channel->room[i].waiters))
			platform->wake(platform->context, &channel->room[i].freed, 0, BH_WAKE_ALL);
	}
}

void bh_slot_release(struct bh_channel *channel, uint32_t slot)
{
	struct bh_slot *s = &channel->slots[slot];
	uint32_t lane = bh_lane_of(channel, slot);
	uint32_t bit = slot - lane * channel->geometry.slots_per_lane;

	bh_store_relaxed(&s->ticket, BH_TICKET_NONE);
	if (s->call_chunks) {
		bh_pool_release(&channel->call_pool, s->call_first, s->call_chunks);
		s->call_chunks = 0;
	}
	if (s->reply_chunks) {
		bh_pool_release(&channel->reply_pool, s->reply_first, s->reply_chunks);
		s->reply_chunks = 0;
	}
	bh_fetch_or(&channel->lanes[lane].free, 1ull << bit);
	bh_room_freed(channel);
}

/* Too late for its call, and yet a sign of life. */
static void count_late(struct bh_channel *channel, uint32_t slot)
{
	const struct bh_platform *platform = channel->platform;
	uint32_t lane = bh_lane_of(channel, slot);

	bh_count(channel, lane, BH_COUNT_LATE);
	bh_answer_taken(channel, lane, platform->coarse_ns(platform->context));
}

int bh_slot_reclaim(struct bh_channel *channel, uint32_t slot, uint64_t ticket)
{
	struct bh_slot *s = &channel->slots[slot];
	uint64_t expected = ticket;
	int late = bh_load_acquire(&bh_reply_slot_at(channel, slot)->ticket) == ticket;

	if (!bh_generation_ended(channel, ticket) &&
	    (!late || (bh_load_relaxed(&s->fate) & BH_FATE_VIOLATED)))
		return bh_load(&s->abandoned) != ticket;
	/* A ticket never repeats in a slot, so no other call can have used the slot in between. */
	if (bh_compare_exchange(&s->abandoned, &expected, BH_TICKET_NONE)) {
		if (late && !(bh_load_relaxed(&s->fate) & BH_FATE_VIOLATED))
			count_late(channel, slot);
		bh_sub_fetch(&channel->abandoned_count, 1u);
		bh_slot_release(channel, slot);
	}
	return 1;
}

void bh_slots_reclaim(struct bh_channel *channel)
{
	uint64_t ticket;
	uint32_t slot;

	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load(&channel->slots[slot].abandoned);
		if (ticket != BH_TICKET_NONE)
			bh_slot_reclaim(channel, slot, ticket);
	}
}

void bh_slot_abandon(struct bh_channel *channel, uint32_t slot, uint64_t ticket, int violated)
{
	struct bh_slot *s = &channel->slots[slot];

	bh_store_relaxed(&s->fate, violated ? BH_FATE_VIOLATED : 0u);
	bh_store_relaxed(&s->ticket, BH_TICKET_NONE);
	bh_add_fetch(&channel->abandoned_count, 1u);
	bh_exchange(&s->abandoned, ticket);
	/* Its generation may have ended, or its answer may have come, since the caller checked. */
	bh_slot_reclaim(channel, slot, ticket);
	/* A waiter for room polls only while a slot is abandoned: wake it, so that it starts to
	 * poll. */
	bh_room_freed(channel);
}
