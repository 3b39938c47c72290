// SPDX-License-Identifier: GPL-2.0-only
/* What a notification says about the process that it is about, or that caused it. */
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/ktime.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "shim/module/process/task_identity.h"

void bh_task_identity(struct bh_notification *notification, struct task_struct *task)
{
	const struct cred *cred;

	notification->time_ns = ktime_get_ns();
	rcu_read_lock();
	cred = __task_cred(task);
	notification->pid = (u32)task->tgid;
	notification->start_ns = task->group_leader->start_boottime;
	notification->parent = (u32)rcu_dereference(task->real_parent)->tgid;
	notification->uid = from_kuid(&init_user_ns, cred->euid);
	notification->gid = from_kgid(&init_user_ns, cred->egid);
	notification->cgroup = cgroup_id(task_dfl_cgroup(task));
	rcu_read_unlock();
}
