// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Waiting in the caller's own context: spin while that pays, then sleep.
 *
 * The spin budget is one number for each lane. An answer within it brings it up to the channel's
 * ceiling; a spin in vain, on a busy core or with a slow driver, takes a quarter off until nothing
 * is left. Then one call in PROBE_CALLS tries whether it would pay again.
 *
 * SUBTLE: callers of a lane overwrite each other's lessons. A lost one is learnt again; no more
 * than time depends on it.
 */
#include "shim/core/internal.h"

/* A call whose CPU was handed over looks whether that worker came to run. */
#define SECOND_LOOK_NS 300000u
#define POLLS_PER_LOOK 64u /* at the clock and the channel's epoch */
#define PROBE_CALLS 64u

static uint32_t spin_budget(struct bh_channel *channel, struct bh_lane *lane)
{
	uint32_t budget = bh_load_relaxed(&lane->spin_ns);
	uint32_t skipped;

	if (budget || !channel->spin_ns)
		return budget;
	skipped = bh_load_relaxed(&lane->spin_skipped) + 1;
	bh_store_relaxed(&lane->spin_skipped, skipped);
	return skipped % PROBE_CALLS ? 0 : channel->spin_ns / 4;
}

static void spin_paid(struct bh_channel *channel, struct bh_lane *lane, uint32_t budget)
{
	uint32_t more = channel->spin_ns / 8 + 1;

	if (budget == channel->spin_ns)
		return;
	budget = channel->spin_ns - budget < more ? channel->spin_ns : budget + more;
	bh_store_relaxed(&lane->spin_ns, budget);
}

static void spin_wasted(struct bh_channel *channel, struct bh_lane *lane, uint32_t budget)
{
	budget -= budget / 4;
	bh_store_relaxed(&lane->spin_ns, budget < channel->spin_ns / 32 + 4 ? 0 : budget);
}

/* Not 0: look at the call again. *now_ns moves on when the clock was read. */
static int spin(struct bh_call *call, const struct bh_wait *wait, uint64_t until_ns,
		uint64_t *now_ns)
{
	struct bh_channel *channel = call->channel;
	const struct bh_platform *platform = channel->platform;
	struct bh_lane *lane = &channel->lanes[call->lane];
	uint32_t budget = spin_budget(channel, lane);
	uint64_t spin_until_ns = 0;
	uint32_t polls;

	if (!budget)
		return 0;
	do {
		for (polls = 0; polls < POLLS_PER_LOOK; polls++) {
			if (bh_load_acquire(wait->spin_word) == wait->spin_value) {
				spin_paid(channel, lane, budget);
				return 1; /* an answer counts whatever the clock says */
			}
			bh_cpu_relax();
		}
		*now_ns = platform->now_ns(platform->context);
		if (!spin_until_ns) /* *now_ns was a coarse time until here */
			spin_until_ns = bh_min_u64(*now_ns + budget,
						   bh_min_u64(until_ns, wait->until_ns));
		if (bh_load_relaxed(wait->spin_epoch) != wait->spin_epoch_value)
			return 1;
	} while (*now_ns < spin_until_ns);
	spin_wasted(channel, lane, budget);
	return 0;
}

/* Not 0: the caller is being killed. */
static int sleep_once(struct bh_call *call, const struct bh_wait *wait, uint64_t until_ns)
{
	const struct bh_platform *platform = call->shim->platform;
	int killed = 0;

	if (!bh_call_will_sleep(call, wait))
		killed = platform->wait(platform->context, wait->word, wait->expected, wait->shared,
					bh_min_u64(wait->until_ns, until_ns));
	bh_call_awake(call);
	return killed;
}

static int run(struct bh_call *call, uint64_t until_ns, uint64_t now_ns)
{
	const struct bh_platform *platform = call->shim->platform;
	uint64_t spun = BH_TICKET_NONE;
	struct bh_wait wait;

	call->waits_here = until_ns == BH_NO_DEADLINE;
	for (;;) {
		if (bh_call_step(call, now_ns, &wait))
			return 1;
		if (now_ns >= until_ns)
			return 0;
		/* Once for each issue. */
		if (wait.spin_word && spun != call->ticket) {
			spun = call->ticket;
			if (call->way == BH_WAY_HERE)
				wait.until_ns = bh_min_u64(wait.until_ns,
							   call->woken_ns + SECOND_LOOK_NS);
			else if (spin(call, &wait, until_ns, &now_ns))
				continue;
		}
		if (sleep_once(call, &wait, until_ns)) {
			bh_call_cancel(call, platform->now_ns(platform->context));
			return 1;
		}
		now_ns = platform->now_ns(platform->context);
	}
}

static int run_from(struct bh_call *call, uint64_t until_ns, uint64_t now_ns)
{
	const struct bh_platform *platform = call->shim->platform;

	/* A host is not to be blamed for a call that was overdue when it came, nor for time that
	 * had gone by. */
	if (bh_min_u64(call->visit_deadline_ns, until_ns) <= now_ns + BH_SHORT_NS)
		now_ns = platform->now_ns(platform->context);
	return run(call, until_ns, now_ns);
}

void bh_call_run(struct bh_shim *shim, struct bh_call *call)
{
	bh_call_start(shim, call);
	bh_call_run_until(call, BH_NO_DEADLINE);
}

void bh_call_run_at(struct bh_shim *shim, struct bh_call *call, uint64_t now_ns)
{
	bh_call_start(shim, call);
	run_from(call, BH_NO_DEADLINE, now_ns);
}

int bh_call_run_until(struct bh_call *call, uint64_t until_ns)
{
	const struct bh_platform *platform = call->shim->platform;

	return run_from(call, until_ns, platform->coarse_ns(platform->context));
}
