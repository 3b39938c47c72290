// SPDX-License-Identifier: GPL-2.0-only
/* What the core raises, in a ring that the control descriptor reads. Raised by callers: no wait. */
#include <linux/spinlock.h>
#include <linux/uaccess.h>

#include "shim/module/session/session.h"

#define EVENTS 256u /* a power of two */

static DEFINE_SPINLOCK(lock);
static struct bh_module_event ring[EVENTS];
static u32 head, tail; /* of those that are there: [tail, head) */
static u64 lost;
DECLARE_WAIT_QUEUE_HEAD(bh_events_queue);

void bh_events_post(u32 channel, u32 event, u32 detail, u32 generation, u64 call_id)
{
	spin_lock(&lock);
	if (head - tail == EVENTS) {
		lost++;
	} else {
		ring[head++ % EVENTS] = (struct bh_module_event){
			.channel = channel,
			.event = event,
			.detail = detail,
			.generation = generation,
			.call_id = call_id,
			.lost = lost,
		};
		lost = 0;
	}
	spin_unlock(&lock);
	wake_up_interruptible(&bh_events_queue);
}

/* SUBTLE: without the lock, which a poll need not take: a post that this misses wakes the queue. */
bool bh_events_pending(void)
{
	return READ_ONCE(head) != READ_ONCE(tail);
}

void bh_events_reset(void)
{
	spin_lock(&lock);
	tail = head;
	lost = 0;
	spin_unlock(&lock);
}

static bool take(struct bh_module_event *event)
{
	bool there;

	spin_lock(&lock);
	there = head != tail;
	if (there)
		*event = ring[tail++ % EVENTS];
	spin_unlock(&lock);
	return there;
}

ssize_t bh_events_read(char __user *buffer, size_t bytes, bool wait)
{
	struct bh_module_event event;
	ssize_t done = 0;

	if (bytes < sizeof(event))
		return -EINVAL;
	if (wait && wait_event_interruptible(bh_events_queue, bh_events_pending()))
		return -ERESTARTSYS;
	while (bytes - done >= sizeof(event) && take(&event)) {
		if (copy_to_user(buffer + done, &event, sizeof(event)))
			return done ? done : -EFAULT;
		done += sizeof(event);
	}
	return done ? done : -EAGAIN;
}
