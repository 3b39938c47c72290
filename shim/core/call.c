// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The life of a call, and the one function that moves it. States are named for what is waited for.
 *
 *              next channel of the stack, none denied yet
 *        +-----------------------------------------------------------+
 *        v                                                           |
 *      START --> NEED_HOST --> NEED_SLOT --> ISSUED -- allowed ------+
 *        |        |   ^  ^        |  |         |
 *        |        |   |  +--------+  |         |-- host gone: reissue --> NEED_HOST
 *        |        |   |  no host     |         |-- reply breaks the protocol --> NEED_HOST
 *        |        |                  |         |
 *        +--------+------------------+---------+--> ENDED
 *      asked all  policy    policy, deadline   denied, deadline, poison, must not run twice;
 *                                              and from each state: cancelled
 *
 * A verdict by policy or from the cache counts like the driver's: allow goes on to the next
 * channel, and so does a denial that is audited (end_visit()). "Deadline" below START is the
 * visit's: the channel's share of the time that the call has left (share_time()). NEED_HOST is
 * passed over while a host serves.
 */
#include "shim/core/internal.h"
#include "shim/core/reply.h"

/*
 * More moves than any call makes in one step unless generations come and go meanwhile; then it
 * returns and is stepped again.
 */
#define MOVES_MAX 128u
/* An abandoned slot or a descriptor socket does not announce that it has room: look this often. */
#define ROOM_POLL_NS 1000000u
/* Wakes without an answer that are taken for stale; then sleeps are slices; then it is abuse. */
#define SPURIOUS_PATIENCE 8u
#define SPURIOUS_SLICE_NS 100000u
#define SPURIOUS_SLICE_MAX_NS 1000000u
#define SPURIOUS_MAX 128u

void bh_call_start(struct bh_shim *shim, struct bh_call *call)
{
	call->shim = shim;
	call->channel = NULL;
	call->position = 0;
	call->state = BH_CALL_START;
	call->visit_outcome = BH_OUTCOME_UNASKED;
	call->outcome = BH_OUTCOME_PENDING;
	call->reason = 0;
	call->verdict = BH_VERDICT_ALLOW;
	call->error = 0;
	call->reply_bytes = 0;
	call->reply_payload_bytes = 0;
	call->issues = 0;
	call->ended_ns = 0;
	call->announced = 0;
	call->sleeping = 0;
	call->suspect = 0;
	call->waits_here = 0;
	call->ticket = BH_TICKET_NONE;
	call->visit_deadline_ns = call->deadline_ns;
	call->timed_ns = 0;
	if (call->args_bytes > BH_ARGS_BYTES_MAX)
		call->args_bytes = BH_ARGS_BYTES_MAX;
}

/* ---- Leaving a channel ---- */

static void count_visit(struct bh_call *call)
{
	if (call->counted)
		return;
	call->counted = 1;
	bh_count(call->channel, call->lane, BH_COUNT_CALLS);
}

static void stop_waiting_for_room(struct bh_call *call, int served)
{
	if (bh_unlikely(call->announced))
		bh_room_leave(call, served);
}

static void finish(struct bh_call *call, uint32_t outcome, uint64_t now_ns)
{
	call->state = BH_CALL_ENDED;
	call->ended_ns = now_ns;
	call->outcome = outcome;
	if (outcome != BH_OUTCOME_POLICY)
		call->reason = 0;
	if (call->payload)
		bh_loan_end(call);
}

/*
 * The only place where a driver's denial, however it came about, becomes one. What an audited
 * driver or guard denies goes on as an allow from here; what is remembered of a verdict (cache.c)
 * is the driver's.
 */
static BH_COLD uint32_t deny(struct bh_call *call, uint32_t *outcome, uint64_t now_ns)
{
	uint32_t by = BH_DENIED_BY_POLICY;
	uint32_t reason = call->reason;

	if (bh_callback_kind(call->callback) == BH_CALLBACK_OPERATES)
		return BH_VERDICT_DENY; /* a completion is no verdict: there is nothing to let go */
	if (*outcome == BH_OUTCOME_ANSWERED)
		by = BH_DENIED_BY_DRIVER;
	else if (*outcome == BH_OUTCOME_CACHED)
		by = BH_DENIED_BY_CACHE;
	else if (*outcome == BH_OUTCOME_UNKNOWN)
		reason = BH_REASON_OVERDUE;
	if (!bh_denial_is_audited(call->channel, call->lane, call, by, reason, now_ns))
		return BH_VERDICT_DENY;
	/* The others are asked. */
	if (*outcome == BH_OUTCOME_UNKNOWN) {
		*outcome = BH_OUTCOME_POLICY;
		call->reason = reason;
	}
	call->error = 0;
	return BH_VERDICT_ALLOW;
}

static void end_timing(struct bh_call *call)
{
	const struct bh_platform *platform = call->shim->platform;
	uint64_t now_ns, took_ns;

	if (!call->timed_ns)
		return;
	now_ns = platform->now_ns(platform->context);
	took_ns = now_ns > call->timed_ns ? now_ns - call->timed_ns : 0;
	bh_count(call->channel, call->lane, BH_COUNT_TOOK + bh_latency_part(took_ns));
	bh_count_sum(call->channel, call->lane, BH_COUNT_TOOK_NS, took_ns);
	call->timed_ns = 0;
}

static void end_visit(struct bh_call *call, uint32_t outcome, uint32_t verdict, uint64_t now_ns)
{
	end_timing(call);
	stop_waiting_for_room(call, 0);
	bh_suspect_leave(call);
	if (bh_unlikely(verdict == BH_VERDICT_DENY))
		verdict = deny(call, &outcome, now_ns);
	call->verdict = verdict;
	/* Drivers that allow do not make up for one that did not decide. */
	if (verdict != BH_VERDICT_ALLOW || call->visit_outcome != BH_OUTCOME_POLICY ||
	    outcome == BH_OUTCOME_UNKNOWN)
		call->visit_outcome = outcome;
	if (verdict == BH_VERDICT_ALLOW && outcome != BH_OUTCOME_UNKNOWN &&
	    ++call->position < call->shim->channel_count)
		call->state = BH_CALL_START;
	else
		finish(call, call->visit_outcome, now_ns);
}

/* Not 0: the call has left the channel. 0: the policy is to hold, and there is something to hold
 * for. */
static int end_by_policy(struct bh_call *call, uint32_t reason, int final, uint64_t now_ns)
{
	uint32_t error = 0;
	int known;
	uint32_t verdict = bh_policy_decide(call->channel, call, reason, final, &error, &known);

	count_visit(call);
	if (!verdict)
		return 0;
	bh_count(call->channel, call->lane, BH_COUNT_BY_POLICY + reason);
	if (verdict == BH_VERDICT_ALLOW && !known && reason != BH_REASON_DECLINED)
		bh_count(call->channel, call->lane, BH_COUNT_LET_THROUGH);
	call->reason = reason;
	call->error = error;
	end_visit(call, BH_OUTCOME_POLICY, verdict, now_ns);
	return 1;
}

/*
 * Not 0: its object, or its user, is convicted, and it has left the channel. One whose object
 * has a strike is issued alone of all suspects, so that the next host to fall convicts the right
 * one, and only one.
 */
static BH_COLD int end_if_convicted(struct bh_call *call, uint64_t now_ns)
{
	enum bh_guilt guilt = bh_poison_find(call->channel, call);

	if (guilt != BH_CONVICTED &&
	    bh_user_is(call->channel, call->opener, bh_owner_of(call->owner), BH_CONVICTED, now_ns))
		guilt = BH_CONVICTED;
	call->struck = guilt != BH_INNOCENT;
	if (guilt == BH_STRUCK)
		bh_suspect_join(call);
	return guilt == BH_CONVICTED && end_by_policy(call, BH_REASON_POISON, 1, now_ns);
}

/*
 * The same for a call that no host has now. One that a host had in hand when it ended is
 * suspicious: it waits for the next host, and what is not answered then is not put down to the lack
 * of a host.
 */
static int end_unserved(struct bh_call *call, uint32_t reason, int final, uint64_t now_ns)
{
	/* That no host serves it may be its own user's doing. */
	if (bh_unlikely(bh_load_relaxed(&call->channel->users_known)) &&
	    bh_user_is(call->channel, call->opener, bh_owner_of(call->owner), BH_STRUCK, now_ns))
		reason = BH_REASON_CROWD;
	/* One whose host was killed is none where an operator wants no host: he killed it, too. */
	if (!call->crashes && (!call->kills || reason == BH_REASON_ABSENT))
		return end_by_policy(call, reason, final, now_ns);
	return final ? end_by_policy(call, BH_REASON_OVERDUE, 1, now_ns) : 0;
}

/*
 * SUBTLE: what is read relaxed below is either the channel's settings (channel.c: old or new, as if
 * a moment earlier), a fate, which is not written once its generation has ended, or a bell. A bell
 * is the host's to write: one that it rings for nothing costs it the sleep of its callers, and then
 * its place (wait_despite_bell()).
 */

/* ---- START ---- */

/*
 * How long the channel at `position` may keep the call: an equal share of what is left for it and
 * for those behind it that will be asked, so that each gets its turn however slow the others are.
 * The last one gets all. A driver must not be blamed for time that had gone by before its visit:
 * where that matters, *now_ns is read anew.
 *
 * SUBTLE: a driver may register for another set meanwhile. The number of visits to come only
 * divides the time.
 */
static void share_time(struct bh_call *call, uint64_t *now_ns)
{
	const struct bh_platform *platform = call->shim->platform;
	const struct bh_shim *shim = call->shim;
	uint64_t bit = bh_set_bit(call->callback);
	uint32_t visits = 1, i;

	for (i = call->position + 1; i < shim->channel_count; i++)
		if (bh_set_has_bit(&shim->channels[i]->callbacks, call->callback, bit))
			visits++;
	if (call->deadline_ns < *now_ns + BH_SHORT_NS * visits)
		*now_ns = platform->now_ns(platform->context);
	call->visit_deadline_ns = call->deadline_ns;
	call->visit_ns = *now_ns;
	if (visits > 1 && call->deadline_ns > *now_ns)
		call->visit_deadline_ns = *now_ns + (call->deadline_ns - *now_ns) / visits;
}

/* SUBTLE: callers of a lane overwrite each other's number: one call more or less is timed. */
static void begin_timing(struct bh_call *call)
{
	const struct bh_platform *platform = call->shim->platform;
	struct bh_lane *lane = &call->channel->lanes[call->lane];
	uint32_t untimed;

	if (!platform->timed_every)
		return;
	untimed = bh_load_relaxed(&lane->untimed) + 1;
	if (untimed >= platform->timed_every) {
		untimed = 0;
		call->timed_ns = platform->now_ns(platform->context);
	}
	bh_store_relaxed(&lane->untimed, untimed);
}

/* *now_ns moves on when the clock was read. */
static void start_visit(struct bh_call *call, uint64_t *now_ns)
{
	struct bh_shim *shim = call->shim;
	uint64_t bit = bh_set_bit(call->callback);
	struct bh_channel *channel;
	uint32_t verdict, error = 0;

	while (call->position < shim->channel_count &&
	       !bh_set_has_bit(&shim->channels[call->position]->callbacks, call->callback, bit))
		call->position++;
	if (call->position >= shim->channel_count) {
		finish(call, call->visit_outcome, *now_ns);
		return;
	}
	channel = shim->channels[call->position];
	call->channel = channel;
	call->lane = channel->platform->cpu(channel->platform->context);
	if (call->lane >= channel->geometry.lanes)
		call->lane %= channel->geometry.lanes;
	call->attempts = 0;
	call->crashes = 0;
	call->kills = 0;
	call->counted = 0;
	call->struck = 0;
	/* What seek_host() would say, where there is a host. */
	call->state = bh_load(&channel->serving) ? BH_CALL_NEED_SLOT : BH_CALL_NEED_HOST;
	call->visit_ns = *now_ns;
	if (bh_unlikely(bh_load_relaxed(&channel->guilt_known)) && end_if_convicted(call, *now_ns))
		return;
	if (channel->cache.sets) {
		verdict = bh_cache_find(&channel->cache, call,
					bh_load_relaxed(&channel->content_version), 0, &error);
		if (verdict) {
			call->error = error;
			bh_count(channel, call->lane, BH_COUNT_CACHED);
			end_visit(call, BH_OUTCOME_CACHED, verdict, *now_ns);
			return;
		}
	}
	begin_timing(call);
	if (shim->channel_count > 1)
		share_time(call, now_ns);
}

static uint32_t held_ms(const struct bh_call *call)
{
	uint64_t held_ns = call->visit_deadline_ns - call->visit_ns;
	uint32_t held = held_ns >> 20 < 0x7fffffffu ? (uint32_t)(held_ns >> 20) : 0x7fffffffu;

	if (call->visit_deadline_ns < call->visit_ns) /* it came too late */
		return 0;
	return held + held / 21; /* 2^20 ns are 1.0486 ms */
}

/* At a call's deadline. Not 0: the host of this generation hangs, and its supervisor was told. */
static BH_COLD int convict_of_hanging(struct bh_call *call, uint32_t generation, uint64_t now_ns)
{
	int hangs = bh_host_hangs(call->channel, generation, now_ns);

	if (hangs)
		bh_channel_event(call->channel, BH_EVENT_HUNG, held_ms(call), generation, call);
	return hangs;
}

/*
 * Why a call has had no turn. A user that keeps the driver busy with one call must not get another
 * one through unasked by that.
 */
static BH_COLD uint32_t no_turn(const struct bh_call *call)
{
	return call->opener > BH_OPENER_ROOT && bh_opener_crowds(call->channel, call)
		       ? BH_REASON_CROWD
		       : BH_REASON_FULL;
}

/* ---- Waiting ---- */

static void wait_private(struct bh_call *call, struct bh_wait *wait, uint32_t *word,
			 uint32_t expected, uint64_t until_ns)
{
	wait->word = word;
	wait->expected = expected;
	wait->shared = 0;
	wait->until_ns = bh_min_u64(call->visit_deadline_ns, until_ns);
	wait->spin_word = NULL;
	wait->spin_value = 0;
	wait->spin_epoch = NULL;
	wait->spin_epoch_value = 0;
}

/* Each of the three below: not 0 when the call has moved; else *wait is filled. */

static int seek_host(struct bh_call *call, uint64_t now_ns, struct bh_wait *wait)
{
	struct bh_channel *channel = call->channel;
	uint32_t epoch = bh_load(&channel->epoch); /* before looking at what it announces */
	uint32_t serving = bh_load(&channel->serving);
	int past = now_ns >= call->visit_deadline_ns;
	uint32_t reason;
	int final;

	if (serving && !past) {
		call->state = BH_CALL_NEED_SLOT;
		return 1;
	}
	if (bh_unlikely(bh_load_relaxed(&channel->guilt_known)) && end_if_convicted(call, now_ns))
		return 1;
	final = past;
	reason = bh_load_relaxed(&channel->unserved_reason);
	if (serving) {
		reason = no_turn(call); /* there was a host, but no time left to ask it */
	} else if (bh_load_relaxed(&channel->quarantined)) {
		reason = BH_REASON_ABSENT;
		final = 1;
	}
	/* A host that hands over is followed by another: there is something to wait for, whatever
	 * the policy for the lack of one is. */
	if ((final || !bh_load_relaxed(&channel->draining)) &&
	    end_unserved(call, reason, final, now_ns))
		return 1;
	wait_private(call, wait, &channel->epoch, epoch, BH_NO_DEADLINE);
	return 0;
}

/* Not 0: the call does not wait for room; its policy says so. Which of the reasons it is matters
 * only where one of them does not hold: to find out takes a look at all slots. */
static int end_without_room(struct bh_call *call, uint64_t now_ns)
{
	if (bh_policy_holds(call->channel, call->callback, BH_REASON_FULL) &&
	    bh_policy_holds(call->channel, call->callback, BH_REASON_CROWD))
		return end_unserved(call, BH_REASON_FULL, 0, now_ns);
	return end_unserved(call, no_turn(call), 0, now_ns);
}

static BH_COLD int hold_for_room(struct bh_call *call, struct bh_room_queue *queue, uint32_t freed,
				 uint64_t now_ns, struct bh_wait *wait)
{
	struct bh_channel *channel = call->channel;
	uint64_t until_ns = BH_NO_DEADLINE;

	if (end_without_room(call, now_ns))
		return 1;
	/* It has become a suspect, or it is known now whose it is. */
	if (call->announced && queue != &channel->room[call->announced - 1])
		bh_room_leave(call, 0);
	if (bh_load(&channel->abandoned_count))
		until_ns = now_ns + ROOM_POLL_NS;
	wait_private(call, wait, &queue->freed, freed, until_ns);
	return 0;
}

static int seek_slot(struct bh_call *call, uint64_t now_ns, struct bh_wait *wait)
{
	struct bh_channel *channel = call->channel;
	struct bh_room_queue *queue = &channel->room[bh_room_queue_of(call)];
	uint32_t freed = bh_load(&queue->freed); /* before looking at what they announce */
	uint32_t epoch = bh_load(&channel->epoch);
	uint32_t generation = bh_load(&channel->serving);

	if (now_ns >= call->visit_deadline_ns) {
		if (generation)
			convict_of_hanging(call, generation, now_ns);
		return end_unserved(call, no_turn(call), 1, now_ns);
	}
	if (!generation) {
		stop_waiting_for_room(call, 0);
		call->state = BH_CALL_NEED_HOST;
		return 1;
	}
	if (bh_unlikely(bh_load_relaxed(&channel->guilt_known)) && end_if_convicted(call, now_ns))
		return 1;
	if (call->suspect && !bh_suspect_turn(call))
		return hold_for_room(call, queue, freed, now_ns, wait);
	switch (bh_issue(call, generation, now_ns)) {
	case BH_ISSUE_DONE:
		stop_waiting_for_room(call, 1);
		call->state = BH_CALL_ISSUED;
		return 1;
	case BH_ISSUE_NO_HOST:
		stop_waiting_for_room(call, 0);
		call->state = BH_CALL_NEED_HOST;
		return 1;
	case BH_ISSUE_NEVER_FITS:
		return end_by_policy(call, BH_REASON_FULL, 1, now_ns);
	case BH_ISSUE_NO_DESCRIPTOR:
		return end_by_policy(call, BH_REASON_ABSENT, 1, now_ns);
	case BH_ISSUE_NO_DESCRIPTOR_ROOM:
		/* Not on `freed`: callers that try in vain would wake each other by what they
		 * give back. */
		if (end_without_room(call, now_ns))
			return 1;
		wait_private(call, wait, &channel->epoch, epoch, now_ns + ROOM_POLL_NS);
		return 0;
	case BH_ISSUE_NO_ROOM:
	default:
		return hold_for_room(call, queue, freed, now_ns, wait);
	}
}

/* ---- ISSUED ---- */

static int answered(const struct bh_call *call)
{
	return bh_load_acquire(&bh_reply_slot_at(call->channel, call->slot)->ticket) ==
	       call->ticket;
}

static void release(struct bh_call *call)
{
	bh_loan_to_call(call, &call->channel->slots[call->slot]);
	bh_slot_release(call->channel, call->slot);
}

static BH_COLD void abandon(struct bh_call *call, int violated)
{
	/* First the queue of suspects must know: a slot that comes back lets the next one go. */
	bh_suspect_abandoned(call);
	bh_slot_abandon(call->channel, call->slot, call->ticket, violated);
}

static BH_COLD void end_as_poison(struct bh_call *call, uint64_t now_ns)
{
	bh_count(call->channel, call->lane, BH_COUNT_POISONED);
	bh_channel_event(call->channel, BH_EVENT_POISON, call->crashes,
			 bh_ticket_generation(call->ticket), call);
	end_by_policy(call, BH_REASON_POISON, 1, now_ns);
}

/* It was begun or not, and its host is gone. The slot has been given back or abandoned. */
static BH_COLD void charge(struct bh_call *call, uint32_t fate, uint64_t now_ns)
{
	struct bh_channel *channel = call->channel;

	switch (bh_charge_call(call, fate)) {
	case BH_CHARGE_POISON:
		end_as_poison(call, now_ns);
		break;
	case BH_CHARGE_UNKNOWN:
		bh_count(channel, call->lane, BH_COUNT_UNKNOWN);
		end_visit(call, BH_OUTCOME_UNKNOWN,
			  bh_policy_fallback(channel, call->callback, BH_REASON_OVERDUE), now_ns);
		break;
	case BH_CHARGE_REISSUE:
	default:
		call->state = BH_CALL_NEED_HOST;
		break;
	}
}

static BH_COLD void violated(struct bh_call *call, uint32_t violation, uint64_t now_ns)
{
	struct bh_channel *channel = call->channel;
	uint32_t generation = bh_ticket_generation(call->ticket);

	bh_count(channel, call->lane, BH_COUNT_VIOLATIONS);
	bh_channel_event(channel, BH_EVENT_VIOLATION, violation, generation, call);
	bh_channel_detach(channel, generation);
	/* It is issued again. */
	bh_loan_to_call(call, &channel->slots[call->slot]);
	abandon(call, 1);
	/* No need to look whether it was begun: the host had it, and answered wrongly. */
	charge(call, BH_END_HOSTILE | BH_FATE_BEGUN, now_ns);
}

static void take_payload(struct bh_call *call, const struct bh_reply_copy *copy)
{
	struct bh_channel *channel = call->channel;
	const struct bh_slot *s = &channel->slots[call->slot];

	call->reply_payload_bytes = copy->payload_bytes;
	if (!call->reply_payload || !copy->payload_bytes)
		return;
	bh_copy(call->reply_payload,
		channel->reply_region + bh_reply_pool_offset(&channel->geometry) +
			(size_t)s->reply_first * BH_POOL_CHUNK_BYTES,
		copy->payload_bytes);
}

static void take_answer(struct bh_call *call, uint64_t now_ns)
{
	struct bh_channel *channel = call->channel;
	struct bh_slot *s = &channel->slots[call->slot];
	struct bh_reply_facts facts;
	struct bh_verdict_reply verdict;
	struct bh_reply_copy copy;
	uint32_t violation;

	facts.callback = call->callback;
	facts.reply_capacity = call->reply_capacity;
	bh_reply_copy_once(bh_reply_slot_at(channel, call->slot), &facts, &copy);
	violation = bh_reply_validate(&copy, &facts);
	if (bh_unlikely(violation != BH_VIOLATION_NONE)) {
		violated(call, violation, now_ns);
		return;
	}
	if (bh_unlikely(copy.status == BH_REPLY_DECLINED)) {
		bh_answer_taken(channel, call->lane, now_ns);
		release(call);
		end_by_policy(call, BH_REASON_DECLINED, 1, now_ns);
		return;
	}
	verdict = bh_reply_verdict(&copy);
	call->reply_bytes = copy.reply_bytes;
	bh_copy_words(call->reply, copy.reply,
		      bh_unlikely(copy.reply_bytes > sizeof(verdict)) ? BH_INLINE_BYTES
								      : sizeof(verdict));
	take_payload(call, &copy);
	if (call->way != BH_WAY_NONE)
		bh_wake_learn(call);
	bh_count_owned(&s->answered);
	bh_answer_taken(channel, call->lane, now_ns);
	if (bh_unlikely(call->struck))
		bh_poison_wipe(channel, call);
	if (verdict.verdict == BH_VERDICT_DENY)
		call->error = verdict.error;
	release(call);
	if (bh_unlikely(verdict.cacheability == BH_CACHE_OBJECT))
		bh_cache_store(&channel->cache, call, call->content_version,
			       bh_ticket_generation(call->ticket), verdict);
	end_visit(call, BH_OUTCOME_ANSWERED, verdict.verdict, now_ns);
}

static BH_COLD void lose_host(struct bh_call *call, uint64_t now_ns)
{
	struct bh_slot *s = &call->channel->slots[call->slot];
	uint32_t fate = bh_load_relaxed(&s->fate);

	release(call);
	charge(call, fate, now_ns);
}

/*
 * A call that was begun is overdue in the driver's hands. One that was not has waited for its turn
 * too long, or its host takes no calls any more. A host that lies about that loses nothing for its
 * callers but what it could deny them by answering. Whether the host is to blame does not depend on
 * what it says: bh_host_hangs().
 */
static BH_COLD void overdue(struct bh_call *call, uint64_t now_ns)
{
	struct bh_channel *channel = call->channel;
	int begun = bh_begun(channel, call->slot, call->ticket) || call->crashes || call->kills;
	int hangs = convict_of_hanging(call, bh_ticket_generation(call->ticket), now_ns);
	uint32_t reason = begun ? BH_REASON_OVERDUE : no_turn(call);

	if (reason == BH_REASON_FULL && hangs)
		reason = BH_REASON_HUNG;
	if (begun || hangs)
		bh_count(channel, call->lane, BH_COUNT_OVERDUE);
	/* The other channels may still be asked. */
	bh_loan_stays(call, call->position + 1 < call->shim->channel_count);
	abandon(call, 0);
	end_by_policy(call, reason, 1, now_ns);
}

/* A host that rings without answering gets fewer and longer sleeps for it, then its end. */
static BH_COLD void wait_despite_bell(struct bh_call *call, uint64_t now_ns, struct bh_wait *wait,
				      uint32_t epoch)
{
	struct bh_channel *channel = call->channel;
	uint64_t slice_ns = SPURIOUS_SLICE_MAX_NS;

	if (call->spurious_wakes > SPURIOUS_MAX && !call->bell_broken) {
		call->bell_broken = 1;
		bh_count(channel, call->lane, BH_COUNT_VIOLATIONS);
		bh_channel_event(channel, BH_EVENT_VIOLATION, BH_VIOLATION_BELL,
				 bh_ticket_generation(call->ticket), call);
		bh_channel_detach(channel, bh_ticket_generation(call->ticket));
		epoch = bh_load(&channel->epoch);
	}
	if (!call->bell_broken)
		slice_ns = bh_min_u64(SPURIOUS_SLICE_NS *
					      (uint64_t)(call->spurious_wakes - SPURIOUS_PATIENCE),
				      SPURIOUS_SLICE_MAX_NS);
	wait_private(call, wait, &channel->epoch, epoch, now_ns + slice_ns);
}

/*
 * A busy home worker must not delay a call while others sleep. The first look comes right after the
 * issue; a caller that looks a second time, or is about to sleep, has waited.
 */
static void nudge(struct bh_call *call)
{
	if (call->looks < 2 && ++call->looks == 2)
		bh_wake_another(call->channel, call);
}

static int seek_answer(struct bh_call *call, uint64_t now_ns, struct bh_wait *wait)
{
	struct bh_channel *channel = call->channel;
	struct bh_reply_slot *reply = bh_reply_slot_at(channel, call->slot);
	uint32_t epoch = bh_load_acquire(&channel->epoch);
	uint32_t bell = bh_load_relaxed(&reply->bell);
	int gone = 0;

	/* An answer that is there counts, whatever the clock says and whether or not its host still
	 * lives. */
	if (!answered(call)) {
		gone = bh_generation_ended(channel, call->ticket);
		if (!gone || !answered(call)) {
			if (gone) {
				lose_host(call, now_ns);
				return 1;
			}
			if (now_ns >= call->visit_deadline_ns) {
				overdue(call, now_ns);
				return 1;
			}
			nudge(call);
			if (call->spurious_wakes > SPURIOUS_PATIENCE) {
				wait_despite_bell(call, now_ns, wait, epoch);
				return 0;
			}
			wait->word = &reply->bell;
			wait->expected = bell;
			wait->shared = 1;
			wait->until_ns = call->visit_deadline_ns;
			wait->spin_word = &reply->ticket;
			wait->spin_value = call->ticket;
			wait->spin_epoch = &channel->epoch;
			wait->spin_epoch_value = epoch;
			return 0;
		}
	}
	take_answer(call, now_ns);
	return 1;
}

/* ---- The transition function ---- */

int bh_call_step(struct bh_call *call, uint64_t now_ns, struct bh_wait *wait)
{
	uint32_t moves;
	int moved = 1;

	if (bh_unlikely(call->sleeping))
		bh_call_awake(call);
	for (moves = 0; moves < MOVES_MAX && moved; moves++) {
		/* The usual way is straight down. */
		switch (call->state) {
		case BH_CALL_START:
			start_visit(call, &now_ns);
			if (call->state != BH_CALL_NEED_SLOT)
				break;
			bh_fallthrough;
		case BH_CALL_NEED_SLOT:
			moved = seek_slot(call, now_ns, wait);
			break;
		case BH_CALL_NEED_HOST:
			moved = seek_host(call, now_ns, wait);
			break;
		case BH_CALL_ISSUED:
			moved = seek_answer(call, now_ns, wait);
			if (call->state != BH_CALL_ENDED)
				break;
			bh_fallthrough;
		default:
			wait->word = NULL;
			wait->spin_word = NULL;
			return 1;
		}
	}
	if (moved) /* the world changes faster than we look: come back at once */
		wait_private(call, wait, &call->channel->epoch, bh_load(&call->channel->epoch) - 1,
			     now_ns);
	return 0;
}

void bh_call_charge(struct bh_call *call, uint32_t opener)
{
	call->opener = opener;
	if (call->state == BH_CALL_ISSUED)
		bh_store_relaxed(&bh_call_slot_at(call->channel, call->slot)->opener, opener);
}

int bh_call_try_caches(struct bh_call *call, uint64_t now_ns)
{
	while (call->state == BH_CALL_START)
		start_visit(call, &now_ns);
	return call->state == BH_CALL_ENDED;
}

void bh_call_cancel(struct bh_call *call, uint64_t now_ns)
{
	if (call->state == BH_CALL_ENDED)
		return;
	bh_call_awake(call);
	if (call->channel && call->state != BH_CALL_START) {
		if (call->state == BH_CALL_ISSUED) {
			bh_loan_stays(call, 0);
			abandon(call, 0);
		}
		count_visit(call);
		end_timing(call);
		bh_count(call->channel, call->lane, BH_COUNT_CANCELLED);
		stop_waiting_for_room(call, 0);
		bh_suspect_leave(call);
	}
	call->verdict = BH_VERDICT_DENY;
	finish(call, BH_OUTCOME_CANCELLED, now_ns);
}

/* ---- Before and after a sleep ---- */

static int will_sleep_for_room(struct bh_call *call, const struct bh_wait *wait)
{
	/*
	 * Announce, then try again: a thread that frees something after the announcement changes
	 * `freed`, so a second visit here may sleep. The announcement lasts until the call leaves
	 * the state.
	 */
	if (!call->announced) {
		bh_room_enter(call);
		return 1;
	}
	return bh_load(wait->word) != wait->expected;
}

int bh_call_will_sleep(struct bh_call *call, const struct bh_wait *wait)
{
	struct bh_channel *channel = call->channel;

	if (call->state == BH_CALL_NEED_SLOT)
		return will_sleep_for_room(call, wait);
	if (call->state != BH_CALL_ISSUED)
		return call->state != BH_CALL_NEED_HOST || bh_load(wait->word) != wait->expected;

	/* The worker that the CPU was handed to gets it first; a look after a sleep wakes another.
	 */
	if (call->way != BH_WAY_HERE)
		nudge(call);
	call->bell = bh_load_relaxed(&bh_reply_slot_at(channel, call->slot)->bell);
	call->sleeping = 1;
	bh_store_relaxed(&bh_call_slot_at(channel, call->slot)->caller_sleeps, 1u);
	/* The host stores its answer, fences, and looks at caller_sleeps: one of us sees the other.
	 */
	bh_fence();
	return answered(call) || bh_generation_ended(channel, call->ticket) ||
	       bh_load_relaxed(wait->word) != wait->expected;
}

void bh_call_awake(struct bh_call *call)
{
	struct bh_channel *channel = call->channel;

	if (!call->sleeping)
		return;
	call->sleeping = 0;
	bh_store_relaxed(&bh_call_slot_at(channel, call->slot)->caller_sleeps, 0u);
	if (bh_load_relaxed(&bh_reply_slot_at(channel, call->slot)->bell) != call->bell &&
	    !answered(call) && !bh_generation_ended(channel, call->ticket))
		call->spurious_wakes++;
}
