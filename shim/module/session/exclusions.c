// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whose accesses cause no calls: the supervisor's, and those of all that it started. Asked in every
 * access to a guarded file, so that it reads the table without a lock; it changes seldom.
 *
 * SUBTLE: a reader may see an entry or the count as it was. A process is listed before it runs an
 * instruction of its own, and leaves after its death: for one that lives, old and new are the same.
 */
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>

#include "shim/module/session/session.h"

#define PIDS_MAX 64u
/* Ancestors that are looked at. A host is its supervisor's child. */
#define DEPTH_MAX 16u

static DEFINE_SPINLOCK(pids_lock);
static struct pid *pids[PIDS_MAX];
static u32 used; /* no entry at or above it */

static bool listed(const struct pid *pid)
{
	u32 i, count = READ_ONCE(used);

	for (i = 0; i < count; i++)
		if (READ_ONCE(pids[i]) == pid)
			return true;
	return false;
}

bool bh_excluded(void)
{
	struct task_struct *task;
	bool found = false;
	u32 depth;

	if (!READ_ONCE(used))
		return false;
	rcu_read_lock();
	task = current;
	for (depth = 0; depth < DEPTH_MAX && task->tgid > 1 && !found; depth++) {
		found = listed(task_tgid(task));
		task = rcu_dereference(task->real_parent);
	}
	rcu_read_unlock();
	return found;
}

bool bh_excluded_itself(struct task_struct *task)
{
	return listed(task_tgid(task));
}

static void drop(u32 i)
{
	struct pid *pid = pids[i];

	WRITE_ONCE(pids[i], NULL);
	put_pid(pid); /* readers only compare the pointer */
}

static bool gone(struct pid *pid)
{
	bool dead;

	rcu_read_lock();
	dead = !pid_task(pid, PIDTYPE_TGID);
	rcu_read_unlock();
	return dead;
}

int bh_exclude(struct pid *pid)
{
	int result = -ENOSPC;
	u32 i;

	spin_lock(&pids_lock);
	for (i = 0; i < PIDS_MAX && result; i++) {
		if (pids[i] && gone(pids[i]))
			drop(i);
		if (pids[i])
			continue;
		WRITE_ONCE(pids[i], get_pid(pid));
		if (i >= used)
			WRITE_ONCE(used, i + 1);
		result = 0;
	}
	spin_unlock(&pids_lock);
	return result;
}

void bh_include(struct pid *pid)
{
	u32 i;

	spin_lock(&pids_lock);
	for (i = 0; i < used; i++)
		if (pids[i] == pid) {
			drop(i);
			break;
		}
	spin_unlock(&pids_lock);
}

void bh_exclusions_clear(void)
{
	u32 i;

	spin_lock(&pids_lock);
	for (i = 0; i < used; i++)
		if (pids[i])
			drop(i);
	WRITE_ONCE(used, 0);
	spin_unlock(&pids_lock);
}
