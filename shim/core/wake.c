// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Waking the other side. The host line and the slots' `begun` are the host's word: a wrong one
 * wakes no worker, which its supervisor sees as a missed deadline, or a worker in vain.
 *
 * SUBTLE: those words change while we read them. They only choose which worker to wake: a call that
 * a worker has taken but not yet begun wakes a second worker, which finds nothing. `workers_known`
 * is a guess that callers overwrite for each other: too low, and a look at all words follows; too
 * high, and a worker is tried that is not there.
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
static uint32_t find_sleepers(struct bh_channel *channel)
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

/* ---- Which way ---- */

/*
 * A call that finds its host asleep may go two ways. HERE hands the caller's own CPU over: the
 * worker that is bound to it is woken, and the caller sleeps at once. ELSEWHERE rouses another CPU,
 * which takes longer as a rule, but the worker there finds the calls that follow by spinning. Which
 * one pays depends on the machine and on how fast calls follow each other, so each lane measures:
 * what a call takes HERE, and ELSEWHERE, there shared with the calls that found that worker awake.
 * The worse way is tried for TRIAL_CALLS in a period (more than one: a spinner has to learn that
 * calls follow), which doubles as long as nothing changes.
 *
 * SUBTLE: callers of one CPU change a lane's numbers without a lock. They only decide what is tried
 * first: a lost one costs time.
 */
#define TRIAL_CALLS 4u
#define TRIAL_PERIOD_MIN 256u
#define TRIAL_PERIOD_MAX 1024u
#define ELSEWHERE_CALLS_MAX (1u << 20)

/* What the last calls took; one that a driver thinks about at most doubles it. */
static void learn(uint32_t *typical_ns, uint32_t took_ns)
{
	uint32_t typical = bh_load_relaxed(typical_ns);

	if (!typical)
		typical = took_ns;
	else if (took_ns > typical)
		typical += bh_min_u32(typical, took_ns - typical);
	else
		typical -= bh_min_u32(typical / 2, typical - took_ns);
	bh_store_relaxed(typical_ns, typical);
}

void bh_wake_learn(struct bh_call *call)
{
	const struct bh_platform *platform = call->channel->platform;
	struct bh_lane *lane = &call->channel->lanes[call->lane];
	uint64_t took_ns = platform->now_ns(platform->context) - call->woken_ns;
	uint32_t took = (uint32_t)bh_min_u64(took_ns, 0x7fffffffu) + 1;

	if (call->way == BH_WAY_HERE)
		learn(&lane->here_ns, took);
	else
		bh_store_relaxed(&lane->elsewhere_took, took);
	call->way = BH_WAY_NONE;
}

/* The worker elsewhere sleeps again: now it is known how many calls it was woken for. */
static void settle(struct bh_lane *lane)
{
	uint32_t took = bh_load_relaxed(&lane->elsewhere_took);

	if (took)
		learn(&lane->elsewhere_ns,
		      took / (bh_load_relaxed(&lane->elsewhere_calls) + 1) + 1);
	bh_store_relaxed(&lane->elsewhere_took, 0u);
	bh_store_relaxed(&lane->elsewhere_calls, 0u);
}

static uint8_t choose(struct bh_lane *lane)
{
	uint32_t here = bh_load_relaxed(&lane->here_ns);
	uint32_t elsewhere = bh_load_relaxed(&lane->elsewhere_ns);
	uint32_t calls = bh_load_relaxed(&lane->cold_calls) + 1;
	uint32_t period = bh_load_relaxed(&lane->trial_period);
	uint32_t way;

	if (!here)
		return BH_WAY_HERE;
	if (!elsewhere)
		return BH_WAY_ELSEWHERE;
	way = here <= elsewhere ? BH_WAY_HERE : BH_WAY_ELSEWHERE;
	if (way != bh_load_relaxed(&lane->way)) {
		bh_store_relaxed(&lane->way, way);
		period = TRIAL_PERIOD_MIN;
	}
	if (calls >= period) {
		calls = 0;
		period = bh_min_u32(2 * period, TRIAL_PERIOD_MAX);
	}
	bh_store_relaxed(&lane->cold_calls, calls);
	bh_store_relaxed(&lane->trial_period, period);
	if (calls < TRIAL_CALLS)
		way = way == BH_WAY_HERE ? BH_WAY_ELSEWHERE : BH_WAY_HERE;
	return (uint8_t)way;
}

/* One more than the worker, or 0 when all others are awake. */
static uint32_t wake_other(struct bh_channel *channel, uint32_t home, uint32_t known)
{
	uint32_t worker;

	for (worker = 0; worker < known; worker++)
		if (worker != home && wake_worker(channel, worker))
			return worker + 1;
	return 0;
}

/* The worker of this number is bound to the caller's CPU, and sleeps. */
static void wake_one_way(struct bh_call *call, uint32_t home, uint32_t known)
{
	struct bh_channel *channel = call->channel;
	struct bh_lane *lane = &channel->lanes[home];
	uint32_t elsewhere = bh_load_relaxed(&lane->elsewhere);
	uint8_t way;

	if (elsewhere && elsewhere <= known &&
	    !bh_load_relaxed(sleeping_word(channel, elsewhere - 1))) {
		uint32_t calls = bh_load_relaxed(&lane->elsewhere_calls);

		/* It ends somewhere: a host that never sleeps again would turn it to 0. */
		if (calls < ELSEWHERE_CALLS_MAX)
			bh_store_relaxed(&lane->elsewhere_calls, calls + 1);
		return;
	}
	settle(lane);
	way = call->waits_here ? choose(lane) : BH_WAY_ELSEWHERE;
	call->woken_ns = channel->platform->now_ns(channel->platform->context);
	if (way == BH_WAY_ELSEWHERE) {
		elsewhere = wake_other(channel, home, known);
		bh_store_relaxed(&lane->elsewhere, elsewhere);
	}
	if (way == BH_WAY_HERE || !elsewhere)
		way = wake_worker(channel, home) ? BH_WAY_HERE : BH_WAY_NONE;
	/* A caller that goes on with other things keeps its CPU, and measures nothing. */
	if (call->waits_here)
		call->way = way;
}

void bh_wake_for(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;
	uint32_t known = bh_load_relaxed(&channel->workers_known);
	uint32_t lane = bh_lane_of(channel, call->slot);
	uint32_t home, sleep;

	call->way = BH_WAY_NONE;
	if (!known)
		known = find_sleepers(channel);
	if (!known)
		return;
	home = lane < known ? lane : lane % known; /* mostly no division */
	sleep = bh_load_relaxed(sleeping_word(channel, home));
	if (sleep == BH_SLEEPS_BOUND && home == call->lane && lane == home)
		wake_one_way(call, home, known);
	else if (sleep)
		wake_worker(channel, home);
}

void bh_wake_another(struct bh_channel *channel, const struct bh_call *call)
{
	uint32_t i, worker, known;

	if (bh_begun(channel, call->slot, call->ticket))
		return;
	known = find_sleepers(channel);
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
