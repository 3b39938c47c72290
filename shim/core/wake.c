// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Waking the other side. The host line and the worker lines are the host's word: a wrong one makes
 * us wake nobody, which its supervisor sees as a missed deadline, or somebody in vain.
 */
#include "shim/core/internal.h"

static uint32_t *sleeping_word(struct bh_channel *channel, uint32_t worker)
{
	return &((struct bh_host_line *)(void *)channel->reply_region)->sleeping[worker];
}

/* Not 0: it slept, and was woken. The word goes to 0 first, so that one of us makes the call. */
static int wake_worker(struct bh_channel *channel, uint32_t worker)
{
	uint32_t *word = sleeping_word(channel, worker);

	if (!bh_load_relaxed(word) || !bh_exchange(word, 0u))
		return 0;
	channel->platform->wake(channel->platform->context, word, 1, 1);
	return 1;
}

/*
 * How many workers a host has is not told; those that were seen asleep are known, and the others
 * are awake and look for themselves.
 */
static uint32_t look_who_sleeps(struct bh_channel *channel)
{
	const struct bh_host_line *line = (const void *)channel->reply_region;
	uint32_t worker, known = bh_load_relaxed(&channel->workers_known);
	uint32_t highest = known;
	uint64_t any = 0;

	for (worker = known / 2; worker < BH_WORKERS_MAX / 2; worker++)
		any |= bh_load_relaxed(&line->sleeping_pairs[worker]);
	if (!any)
		return known;
	for (worker = known; worker < BH_WORKERS_MAX; worker++)
		if (bh_load_relaxed(sleeping_word(channel, worker)))
			highest = worker + 1;
	if (highest != known)
		bh_store_relaxed(&channel->workers_known, highest);
	return highest;
}

void bh_wake_home(struct bh_channel *channel, uint32_t lane)
{
	uint32_t known = bh_load_relaxed(&channel->workers_known);

	if (!known)
		known = look_who_sleeps(channel);
	if (known)
		wake_worker(channel, lane % known);
}

static const struct bh_worker_line *worker_line(struct bh_channel *channel, uint32_t worker)
{
	return (const void *)(channel->reply_region + bh_worker_line_offset(worker));
}

int bh_in_hand(struct bh_channel *channel, const struct bh_call *call)
{
	const struct bh_worker_line *line;
	uint32_t worker;

	for (worker = 0; worker < BH_WORKERS_MAX; worker++) {
		line = worker_line(channel, worker);
		if (bh_load_relaxed(&line->ticket) == call->ticket &&
		    bh_load_relaxed(&line->slot) == call->slot)
			return 1;
	}
	return 0;
}

/* A line keeps the ticket that was taken last; the slots know whether it still waits for an answer.
 */
static int outstanding(struct bh_channel *channel, uint32_t slot, uint64_t ticket)
{
	const struct bh_slot *s;

	if (slot >= channel->slot_count || ticket == BH_TICKET_NONE)
		return 0;
	s = &channel->slots[slot];
	return (bh_load_relaxed(&s->ticket) == ticket ||
		bh_load_relaxed(&s->abandoned) == ticket) &&
	       bh_load_relaxed(&bh_reply_slot_at(channel, slot)->ticket) != ticket;
}

int bh_host_is_busy(struct bh_channel *channel)
{
	const struct bh_worker_line *line;
	uint32_t worker;

	for (worker = 0; worker < BH_WORKERS_MAX; worker++) {
		line = worker_line(channel, worker);
		if (outstanding(channel, bh_load_relaxed(&line->slot),
				bh_load_relaxed(&line->ticket)))
			return 1;
	}
	return 0;
}

void bh_wake_another(struct bh_channel *channel, const struct bh_call *call)
{
	uint32_t i, worker, known;

	if (bh_in_hand(channel, call))
		return;
	known = look_who_sleeps(channel);
	if (!known)
		return;
	worker = call->slot % known;
	for (i = 0; i < known; i++) {
		if (wake_worker(channel, worker))
			return;
		if (++worker == known)
			worker = 0;
	}
}

void bh_ring_bells(struct bh_channel *channel, uint32_t generation)
{
	struct bh_reply_slot *reply;
	uint32_t slot;

	for (slot = 0; slot < channel->slot_count; slot++) {
		if (bh_ticket_generation(bh_load(&channel->slots[slot].ticket)) != generation ||
		    !bh_load(&bh_call_slot_at(channel, slot)->caller_sleeps))
			continue;
		reply = bh_reply_slot_at(channel, slot);
		bh_add_fetch(&reply->bell, 1u);
		channel->platform->wake(channel->platform->context, &reply->bell, 1, BH_WAKE_ALL);
	}
}
