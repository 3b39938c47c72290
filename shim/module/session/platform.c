// SPDX-License-Identifier: GPL-2.0-only
/* The world below the core, in the kernel: its clock, its sleeps, its wakes. */
#include <linux/ktime.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/wait_bit.h>

#include "shim/module/session/session.h"

static u64 now_ns(void *context)
{
	return ktime_get_ns();
}

static u64 coarse_ns(void *context)
{
	return ktime_get_coarse_ns();
}

/*
 * Sleepers queue by the word's address. No sleeper is woken by another's word, and a hostile host
 * that changes words without a wake only keeps its callers asleep until their deadlines.
 *
 * SUBTLE: the word is read behind prepare_to_wait: a thread that changes it before its wake finds
 * us in the queue, or we see the change.
 */
int bh_word_wait(u32 *word, u32 expected, u64 until_ns, int state)
{
	struct wait_bit_queue_entry entry;
	struct wait_queue_head *queue = __var_waitqueue(word);
	ktime_t until = ns_to_ktime(min_t(u64, until_ns, KTIME_MAX));
	int result = 0;

	init_wait_var_entry(&entry, word, WQ_FLAG_EXCLUSIVE);
	for (;;) {
		prepare_to_wait_event(queue, &entry.wq_entry, state);
		if (READ_ONCE(*word) != expected)
			break;
		if (signal_pending_state(state, current)) {
			result = -ERESTARTSYS;
			break;
		}
		if (until_ns == BH_NO_DEADLINE) {
			schedule();
		} else if (!schedule_hrtimeout(&until, HRTIMER_MODE_ABS)) {
			result = -ETIME;
			break;
		}
	}
	finish_wait(queue, &entry.wq_entry);
	return result;
}

/* SUBTLE: what the kernel's wake_up_var() does, with any number. A thread that leaves the wait by a
 * signal or for the time may have been woken: the core passes a wake on. */
static void wake_some(u32 *word, int waiters)
{
	struct wait_bit_key key = __WAIT_BIT_KEY_INITIALIZER(word, -1);
	struct wait_queue_head *queue = __var_waitqueue(word);

	smp_mb(); /* the word's change, before the look for waiters */
	if (waitqueue_active(queue))
		__wake_up(queue, TASK_NORMAL, waiters, &key);
}

void bh_word_wake(u32 *word)
{
	wake_some(word, INT_MAX);
}

static int wait_for(void *context, u32 *word, u32 expected, int shared, u64 until_ns)
{
	return bh_word_wait(word, expected, until_ns, TASK_KILLABLE) == -ERESTARTSYS ? -1 : 0;
}

static void wake(void *context, u32 *word, int shared, int waiters)
{
	wake_some(word, waiters);
}

/* The host fetches it: here it only becomes known. */
static int send_descriptor(void *context, void *cookie, u32 slot, u64 ticket,
			   const struct bh_call *call)
{
	struct bh_mchannel *channel = cookie;
	struct bh_mcall *mcall = container_of((struct bh_call *)call, struct bh_mcall, call);

	bh_call_files_put(&channel->files, slot, ticket, mcall);
	return 0;
}

/* SUBTLE: of two at once the last one counts; a supervisor that reads both has the same choice. */
static void convict(struct bh_mchannel *channel, u32 generation, u32 end)
{
	if (READ_ONCE(channel->convicted) >> 32 != generation)
		WRITE_ONCE(channel->convicted, (u64)generation << 32 | end);
}

static void event(void *context, void *cookie, u32 event, u32 detail, u32 generation, u64 call_id)
{
	struct bh_mchannel *channel = cookie;

	/* Left behind by a supervisor: its number may be another channel's now. */
	if (READ_ONCE(channel->left))
		return;
	if (event == BH_EVENT_HUNG)
		convict(channel, generation, BH_END_HUNG);
	else if (event == BH_EVENT_VIOLATION)
		convict(channel, generation, BH_END_HOSTILE);
	bh_events_post(channel->number, event, detail, generation, call_id);
}

static int denied(void *context, void *cookie, const struct bh_call *call,
		  const struct bh_denial_cause *cause)
{
	struct bh_mchannel *channel = cookie;

	return READ_ONCE(channel->left) ? -1 : bh_denials_post(channel->number, call, cause);
}

static u32 cpu(void *context)
{
	return raw_smp_processor_id();
}

static const struct bh_platform platform = {
	.now_ns = now_ns,
	.coarse_ns = coarse_ns,
	.timed_every = 1,
	.wait = wait_for,
	.wake = wake,
	.send_descriptor = send_descriptor,
	.event = event,
	.denied = denied,
	.cpu = cpu,
};

const struct bh_platform *bh_kernel_platform(void)
{
	return &platform;
}
