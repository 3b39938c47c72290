// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Sums of the counters that lanes and slots keep separately. Exact while no call changes them.
 *
 * SUBTLE: read while calls count. Each counter is one word and only grows, so a sum lies between
 * its value before and after the reading; two sums need not be of one moment.
 */
#include "shim/core/internal.h"

/* Not 0: a host has the call and has not answered. */
static int pending(struct bh_channel *channel, uint32_t slot, uint64_t ticket)
{
	return ticket != BH_TICKET_NONE && !bh_generation_ended(channel, ticket) &&
	       bh_load_acquire(&bh_reply_slot_at(channel, slot)->ticket) != ticket;
}

uint32_t bh_channel_in_flight(struct bh_channel *channel)
{
	uint32_t slot, count = 0;

	for (slot = 0; slot < channel->slot_count; slot++)
		if (pending(channel, slot, bh_load(&channel->slots[slot].ticket)) ||
		    pending(channel, slot, bh_load(&channel->slots[slot].abandoned)))
			count++;
	return count;
}

static uint64_t lane_sum(const struct bh_channel *channel, uint32_t counter)
{
	uint64_t sum = 0;
	uint32_t lane;

	for (lane = 0; lane < channel->geometry.lanes; lane++)
		sum += bh_load_relaxed(&channel->lanes[lane].counter[counter]);
	return sum;
}

void bh_channel_statistics(struct bh_channel *channel, struct bh_statistics *statistics)
{
	const struct bh_slot *s;
	uint32_t i;

	bh_slots_reclaim(channel); /* counts late answers */
	bh_zero(statistics, sizeof(*statistics));
	statistics->cached = lane_sum(channel, BH_COUNT_CACHED);
	statistics->calls = lane_sum(channel, BH_COUNT_CALLS) + statistics->cached;
	statistics->reissued = lane_sum(channel, BH_COUNT_REISSUED);
	statistics->overdue = lane_sum(channel, BH_COUNT_OVERDUE);
	statistics->violations = lane_sum(channel, BH_COUNT_VIOLATIONS);
	statistics->cancelled = lane_sum(channel, BH_COUNT_CANCELLED);
	statistics->unknown = lane_sum(channel, BH_COUNT_UNKNOWN);
	statistics->denied = lane_sum(channel, BH_COUNT_DENIED);
	statistics->poisoned = lane_sum(channel, BH_COUNT_POISONED);
	for (i = 0; i < BH_REASON_COUNT; i++)
		statistics->by_policy[i] = lane_sum(channel, BH_COUNT_BY_POLICY + i);
	for (i = 0; i < channel->slot_count; i++) {
		s = &channel->slots[i];
		statistics->calls += bh_load_relaxed(&s->calls);
		statistics->answered += bh_load_relaxed(&s->answered);
		statistics->denied += bh_load_relaxed(&s->denied);
		statistics->late += bh_load_relaxed(&s->late);
	}
	bh_ring_statistics(channel, statistics);
	statistics->in_flight = bh_channel_in_flight(channel);
	bh_lock_take(&channel->lock);
	statistics->generations = channel->generations;
	statistics->generation = bh_load_relaxed(&channel->serving);
	bh_lock_drop(&channel->lock);
}
