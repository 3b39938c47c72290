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

/* What lanes and slots counted, by enum bh_counter. */
static void add_up(struct bh_channel *channel, uint64_t *words)
{
	const struct bh_slot *s;
	uint32_t i, word;

	for (i = 0; i < channel->geometry.lanes; i++)
		for (word = 0; word < BH_STATISTICS_WORDS; word++)
			words[word] += bh_load_relaxed(&channel->lanes[i].counter[word]);
	for (i = 0; i < channel->slot_count; i++) {
		s = &channel->slots[i];
		words[BH_COUNT_CALLS] += bh_load_relaxed(&s->calls);
		words[BH_COUNT_ANSWERED] += bh_load_relaxed(&s->answered);
	}
	/* Nothing else counts a call that the cache answers. */
	words[BH_COUNT_CALLS] += words[BH_COUNT_CACHED];
}

void bh_channel_statistics(struct bh_channel *channel, struct bh_statistics *statistics)
{
	const struct bh_platform *platform = channel->platform;

	bh_slots_reclaim(channel); /* counts late answers */
	bh_zero(statistics, sizeof(*statistics));
	add_up(channel, (uint64_t *)(void *)statistics);
	bh_ring_statistics(channel, statistics);
	statistics->in_flight = bh_channel_in_flight(channel);
	bh_lock_take(&channel->lock);
	statistics->poison_known = bh_poison_count(channel);
	statistics->users_quarantined = bh_users_count(channel,
						       platform->coarse_ns(platform->context));
	statistics->generations = channel->generations;
	statistics->generation = bh_load_relaxed(&channel->serving);
	bh_lock_drop(&channel->lock);
}
