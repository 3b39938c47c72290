// SPDX-License-Identifier: GPL-2.0-only
/*
 * What drivers are told about processes and modules. The scheduler's tracepoints call us in the
 * context of the process that forks, executes or exits, where preemption is off: nothing here
 * sleeps. A kind that no driver wants has no probe.
 *
 * A loaded module is told of, not asked about: the notifier could refuse one, but a caller that
 * asks a host to load something that the host's own answer needs would wait for itself.
 */
#include <linux/binfmts.h>
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "shim/module/file/change_cookie.h"
#include "shim/module/process/task_identity.h"
#include "shim/module/session/source.h"

#define COMMAND_LINE_BYTES (BH_NOTIFICATION_TEXT_BYTES / 2)

/* Our own side's comings and goings are not news. */
static bool ours(struct task_struct *task)
{
	bool found;

	rcu_read_lock();
	found = bh_excluded_itself(task) || bh_excluded_itself(rcu_dereference(task->real_parent));
	rcu_read_unlock();
	return found;
}

static void tell(u32 kind, struct task_struct *task, struct bh_notification *notification)
{
	struct bh_shim *shim;
	int index;

	if (ours(task))
		return;
	notification->kind = kind;
	bh_task_identity(notification, task);
	shim = bh_stack_enter(&index);
	bh_shim_notify(shim, notification);
	bh_stack_leave(index);
}

static void on_fork(void *data, struct task_struct *parent, struct task_struct *child)
{
	struct bh_notification notification = {};

	if (thread_group_leader(child) && !(child->flags & PF_KTHREAD))
		tell(BH_NOTIFY_PROCESS_CREATED, child, &notification);
}

/* The new program's stack has just been written: it is there, or we do without. */
static size_t command_line(char *line)
{
	const struct mm_struct *mm = current->mm;
	size_t bytes = min_t(size_t, mm->arg_end - mm->arg_start, COMMAND_LINE_BYTES);

	return copy_from_user_nofault(line, (const void __user *)mm->arg_start, bytes) ? 0 : bytes;
}

static void on_exec(void *data, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	struct bh_notification notification = {};
	struct bh_notify_process *process = &notification.body.process;
	struct inode *inode = file_inode(bprm->file);
	char path[BH_NOTIFICATION_TEXT_BYTES], line[COMMAND_LINE_BYTES];

	process->device = new_encode_dev(inode->i_sb->s_dev);
	process->inode = inode->i_ino;
	process->change = bh_change_of(inode);
	notification.text = d_path(&bprm->file->f_path, path, sizeof(path));
	if (IS_ERR(notification.text)) /* too long: as it was called */
		notification.text = bprm->filename;
	notification.text_bytes = strlen(notification.text);
	notification.text2 = line;
	notification.text2_bytes = command_line(line);
	tell(BH_NOTIFY_PROCESS_EXECUTED, task, &notification);
}

/*
 * Once for each process: at the exit of its first thread. Not when another thread executes a
 * program and takes that one's place: the process goes on.
 *
 * SUBTLE: group_exec_task is under a lock that is not ours. It is set before the leader is made to
 * exit, and reset after: its exit sees it.
 */
static void on_exit(void *data, struct task_struct *task)
{
	struct bh_notification notification = {};

	if (!thread_group_leader(task) || (task->flags & PF_KTHREAD) ||
	    READ_ONCE(task->signal->group_exec_task))
		return;
	notification.body.process.exit_code = (u32)task->exit_code;
	tell(BH_NOTIFY_PROCESS_EXITED, task, &notification);
}

static struct probe {
	const char *name;
	void *function;
	u32 kind;
	struct tracepoint *tracepoint;
	bool on;
} probes[] = {
	{"sched_process_fork", on_fork, BH_NOTIFY_PROCESS_CREATED},
	{"sched_process_exec", on_exec, BH_NOTIFY_PROCESS_EXECUTED},
	{"sched_process_exit", on_exit, BH_NOTIFY_PROCESS_EXITED},
};

static void find(struct tracepoint *tracepoint, void *unused)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(tracepoint->name, probes[i].name))
			probes[i].tracepoint = tracepoint;
}

static int on_module(struct notifier_block *block, unsigned long state, void *data)
{
	const struct module *module = data;
	struct bh_notification notification = {};

	if (state == MODULE_STATE_LIVE) {
		notification.text = module->name;
		notification.text_bytes = strlen(module->name);
		tell(BH_NOTIFY_MODULE_LOADED, current, &notification);
	}
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = {.notifier_call = on_module};
static bool module_notifier_on; /* under bh_control_mutex */

static int switch_probe(struct probe *probe, bool on)
{
	int result;

	if (probe->on == on)
		return 0;
	if (!probe->tracepoint)
		return -EOPNOTSUPP;
	if (on)
		result = tracepoint_probe_register(probe->tracepoint, probe->function, NULL);
	else
		result = tracepoint_probe_unregister(probe->tracepoint, probe->function, NULL);
	if (!result)
		probe->on = on;
	return result;
}

static int switch_module_notifier(bool on)
{
	int result;

	if (module_notifier_on == on)
		return 0;
	result = on ? register_module_notifier(&module_notifier)
		    : unregister_module_notifier(&module_notifier);
	if (!result)
		module_notifier_on = on;
	return result;
}

static int notify(const struct bh_callback_set *kinds)
{
	int result = switch_module_notifier(bh_set_has(kinds, BH_NOTIFY_MODULE_LOADED));
	bool off = false;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		bool before = probes[i].on;
		int one = switch_probe(&probes[i], bh_set_has(kinds, probes[i].kind));

		if (one)
			result = one;
		off |= before && !probes[i].on;
	}
	if (off)
		tracepoint_synchronize_unregister(); /* no thread is in a probe any more */
	return result;
}

static int init(void)
{
	for_each_kernel_tracepoint(find, NULL);
	return 0;
}

const struct bh_source bh_process_source = {
	.name = "process",
	.init = init,
	.notify = notify,
};
