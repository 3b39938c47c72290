// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Taking over a call region whose shim died. The region is the shim's own memory, which no host can
 * write, but its writer may have died between any two stores: positions are checked like a
 * stranger's.
 */
#include "shim/core/internal.h"

/* The chunks of a lent stretch, or 0 when it makes no sense or another slot claimed it before. */
static uint16_t claim(struct bh_pool *pool, uint64_t offset, uint64_t bytes, uint16_t *first)
{
	uint64_t start = offset / BH_POOL_CHUNK_BYTES;
	uint64_t chunks = bytes / BH_POOL_CHUNK_BYTES + (bytes % BH_POOL_CHUNK_BYTES != 0);

	if (!chunks || offset % BH_POOL_CHUNK_BYTES || bh_pool_claim(pool, start, chunks))
		return 0;
	*first = (uint16_t)start;
	return (uint16_t)chunks;
}

static void leave_abandoned(struct bh_channel *channel, uint32_t slot, uint64_t ticket)
{
	const struct bh_call_slot *shared = bh_call_slot_at(channel, slot);
	uint32_t lane = slot / channel->geometry.slots_per_lane;
	struct bh_slot *s = &channel->slots[slot];

	channel->lanes[lane].free &= ~(1ull << slot % channel->geometry.slots_per_lane);
	channel->abandoned_count++;
	s->abandoned = ticket;
	if (shared->flags & BH_CALL_HAS_PAYLOAD)
		s->call_chunks = claim(&channel->call_pool, shared->payload_offset,
				       shared->payload_bytes, &s->call_first);
	s->reply_chunks = claim(&channel->reply_pool, shared->reply_offset, shared->reply_capacity,
				&s->reply_first);
}

/*
 * The dead shim may have taken a worker's announcement and not lived to wake it: that worker sleeps
 * on, and no caller knows. Awake, it announces its sleep anew.
 */
static void wake_workers(struct bh_channel *channel)
{
	struct bh_host_line *line = (void *)channel->reply_region;
	uint32_t worker;

	for (worker = 0; worker < BH_WORKERS_MAX; worker++)
		channel->platform->wake(channel->platform->context, &line->sleeping[worker], 1,
					BH_WAKE_ALL);
}

/* Runs before any other thread knows the channel. */
void bh_channel_adopt(struct bh_channel *channel, uint32_t takeover)
{
	uint64_t ticket;
	uint32_t slot;

	channel->adopted = 1;
	channel->taken_over = 1;
	for (slot = 0; slot < channel->slot_count; slot++) {
		ticket = bh_load_acquire(&bh_call_slot_at(channel, slot)->ticket);
		/*
		 * The dead shim may have sent a file ahead of a ticket that it did not live to
		 * store. Counting on from the last one stored would give that file to another call.
		 */
		channel->slots[slot].count = (uint32_t)ticket + (takeover << 16);
		if (bh_ticket_generation(ticket) > channel->highest)
			channel->highest = bh_ticket_generation(ticket);
		/*
		 * Begun or not: its caller is gone with the dead shim, so that the
		 * issue's fate is not asked for. Nor is its host blamed for it: when it was
		 * issued is not known.
		 */
		if (ticket != BH_TICKET_NONE &&
		    bh_load_acquire(&bh_reply_slot_at(channel, slot)->ticket) != ticket)
			leave_abandoned(channel, slot, ticket);
	}
	wake_workers(channel);
}
