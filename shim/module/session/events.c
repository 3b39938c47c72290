// SPDX-License-Identifier: GPL-2.0-only
/* What the core raises and records, in rings that the control descriptor reads. By callers: no
 * wait. */
#include <linux/dcache.h>
#include <linux/err.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>

#include "shim/module/session/session.h"

#define EVENTS 256u /* a power of two */
#define DENIALS 64u /* likewise */

static DEFINE_SPINLOCK(lock);
static struct bh_module_event ring[EVENTS];
static u32 head, tail; /* of those that are there: [tail, head) */
static u64 lost;
static struct bh_module_denial denials[DENIALS];
static u32 denials_head, denials_tail; /* as above */
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
	denials_tail = denials_head;
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

/* ---- Denials ---- */

/* A name is a courtesy: without memory there is none. */
static void fill_path(struct bh_denial *denial, const struct bh_call *call)
{
	const struct bh_mcall *mcall = container_of(call, struct bh_mcall, call);
	char *buffer, *text;
	size_t bytes;

	if (denial->path[0] || !mcall->path || !mcall->path->mnt)
		return;
	buffer = kmalloc(PATH_MAX, GFP_NOWAIT | __GFP_NOWARN);
	if (!buffer)
		return;
	text = d_path(mcall->path, buffer, PATH_MAX);
	if (!IS_ERR(text)) {
		bytes = strlen(text);
		if (bytes > sizeof(denial->path)) {
			text += bytes - sizeof(denial->path);
			bytes = sizeof(denial->path);
		}
		memcpy(denial->path, text, bytes);
	}
	kfree(buffer);
}

int bh_denials_post(u32 channel, const struct bh_call *call, const struct bh_denial_cause *cause)
{
	struct bh_module_denial *made = kmalloc(sizeof(*made), GFP_NOWAIT | __GFP_NOWARN);
	int result = 0;

	if (!made)
		return -1;
	made->channel = channel;
	made->reserved = 0;
	bh_denial_fill(&made->denial, call, cause);
	fill_path(&made->denial, call);
	get_task_comm(made->denial.comm, current);
	spin_lock(&lock);
	if (denials_head - denials_tail == DENIALS)
		result = -1;
	else
		denials[denials_head++ % DENIALS] = *made;
	spin_unlock(&lock);
	kfree(made);
	wake_up_interruptible(&bh_events_queue);
	return result;
}

bool bh_denials_take(struct bh_module_denial *denial)
{
	bool there;

	spin_lock(&lock);
	there = denials_head != denials_tail;
	if (there)
		*denial = denials[denials_tail++ % DENIALS];
	spin_unlock(&lock);
	return there;
}

/* SUBTLE: as bh_events_pending(). */
bool bh_denials_pending(void)
{
	return READ_ONCE(denials_head) != READ_ONCE(denials_tail);
}
