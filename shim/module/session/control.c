// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/bulkhead: what a supervisor asks of us, one at a time. What it made ends with it when it has
 * removed its guards; otherwise it died, and all stays in force for the next one:
 *
 *     free --open--> session --close, no guards--> free
 *                    session --close, guards--> left --open--> session
 *
 * An eject, and the module's exit, tear down whatever there is.
 */
#define pr_fmt(format) KBUILD_MODNAME ": " format

#include <linux/capability.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "shim/module/session/session.h"

/* All under bh_control_mutex. */
static bool initialised; /* a parameter may be set before, and in sysfs also afterwards */
static struct file *session;
static struct bh_mchannel *channels[BH_CHANNELS_MAX]; /* by number; NULL: free */

static struct bh_mchannel *find(u32 number)
{
	return number < BH_CHANNELS_MAX ? channels[number] : NULL;
}

static void tear_down(void)
{
	struct bh_callback_set none;
	u32 i;

	none = bh_set_none();
	bh_sources_notify(&none);
	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i])
			bh_mchannel_stop(channels[i]);
	bh_sources_clear();
	bh_stack_clear();
	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i])
			bh_mchannel_put(channels[i]);
	memset(channels, 0, sizeof(channels));
	bh_exclusions_clear();
	bh_events_reset();
}

/*
 * Its hosts die with it, which ends their generations. SUBTLE: `left` is read by events without a
 * lock: what is posted a moment later waits in a queue that the next supervisor finds reset.
 */
static void leave_behind(void)
{
	bool news = false;
	u32 i;

	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i] && !channels[i]->left) {
			WRITE_ONCE(channels[i]->left, true);
			news = true;
		}
	if (news)
		pr_warn("the supervisor died: its guards stay in force, and callers get what its "
			"policies say until another takes over\n");
}

void bh_control_init(void)
{
	mutex_lock(&bh_control_mutex);
	initialised = true;
	mutex_unlock(&bh_control_mutex);
}

void bh_control_eject(void)
{
	mutex_lock(&bh_control_mutex);
	if (initialised)
		tear_down();
	mutex_unlock(&bh_control_mutex);
}

void bh_control_exit(void)
{
	bh_control_eject();
	mutex_lock(&bh_control_mutex);
	initialised = false;
	mutex_unlock(&bh_control_mutex);
}

static int control_open(struct inode *inode, struct file *file)
{
	int result = 0;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	mutex_lock(&bh_control_mutex);
	if (session) {
		result = -EBUSY;
	} else {
		/* Of one that died: other processes may get its numbers. */
		bh_exclusions_clear();
		bh_events_reset();
		result = bh_exclude(task_tgid(current));
	}
	if (!result)
		session = file;
	mutex_unlock(&bh_control_mutex);
	return result;
}

static int control_release(struct inode *inode, struct file *file)
{
	mutex_lock(&bh_control_mutex);
	if (bh_sources_leave())
		leave_behind();
	else
		tear_down();
	session = NULL;
	mutex_unlock(&bh_control_mutex);
	return 0;
}

/* One that is all that is asked for, and whose calls may still wait. */
static struct bh_mchannel *find_left(const struct bh_module_add *add)
{
	u32 i;

	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i] && channels[i]->left &&
		    !memcmp(&channels[i]->made, add, offsetof(struct bh_module_add, spec.policy)))
			return channels[i];
	return NULL;
}

static long add(struct bh_module_add *add)
{
	struct bh_mchannel *channel;
	u32 number;
	int result;

	if (add->abi != BH_MODULE_ABI || add->generation || add->name[BH_MODULE_NAME_BYTES - 1])
		return -EINVAL;
	channel = find_left(add);
	if (channel) {
		add->channel = channel->number;
		add->generation = channel->highest;
		return bh_mchannel_continue(channel, add);
	}
	for (number = 0; find(number); number++)
		;
	if (number == BH_CHANNELS_MAX)
		return -ENOSPC;
	channel = bh_mchannel_create(add, number);
	if (IS_ERR(channel))
		return PTR_ERR(channel);
	channels[number] = channel;
	result = bh_stack_set(channels, BH_CHANNELS_MAX);
	if (result) {
		channels[number] = NULL;
		bh_mchannel_put(channel);
		return result;
	}
	add->channel = number;
	return 0;
}

/* 0 also when it ended by itself, as the last: its host's mapping goes before its process is seen
 * to be dead. */
static long end(struct bh_mchannel *channel, struct bh_module_end *end)
{
	if (!bh_end_known(end->cause) || end->reserved)
		return -EINVAL;
	bh_mchannel_end(channel, end->generation, end->cause);
	return bh_channel_in_hand(channel->core, end->generation, &end->in_hand) ? -ENOENT : 0;
}

static long set_state(struct bh_mchannel *channel, const struct bh_module_state *state)
{
	bh_channel_set_quarantined(channel->core, state->quarantined);
	if (!state->quarantined && !state->draining)
		bh_channel_forgive(channel->core);
	WRITE_ONCE(channel->draining, state->draining);
	bh_channel_set_draining(channel->core, state->draining);
	return 0;
}

static long set_policy(struct bh_mchannel *channel, const struct bh_module_set_policy *wanted)
{
	return bh_channel_set_policy(channel->core, &wanted->policy) ? -EINVAL : 0;
}

static long statistics(struct bh_mchannel *channel, struct bh_module_statistics *out)
{
	*out = (struct bh_module_statistics){.channel = channel->number};
	out->last_end = READ_ONCE(channel->last_end);
	bh_sources_count(out);
	bh_channel_statistics(channel->core, &out->counters);
	return 0;
}

static int want_notes(void)
{
	struct bh_callback_set kinds = bh_set_none();
	u32 i;

	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i])
			bh_set_join(&kinds, &channels[i]->notify_kinds);
	return bh_sources_notify(&kinds);
}

/* A generation that begins without all of its notifications still answers calls. */
static long begin(struct bh_mchannel *channel, const struct bh_module_begin *begin)
{
	long result;

	if (begin->reserved || begin->spec.reserved)
		return -EINVAL;
	result = bh_host_begin(channel, &begin->spec);
	if (!result && want_notes())
		pr_warn("no source for some notifications that a driver wants\n");
	return result;
}

static long add_guard(const struct bh_module_guard *wanted)
{
	if (!wanted->deadline_ns || wanted->deadline_ns > BH_MODULE_DEADLINE_MAX_NS)
		return -EINVAL;
	return bh_sources_add_guard(wanted);
}

static long settle(void)
{
	struct bh_mchannel *kept[BH_CHANNELS_MAX] = {};
	long result;
	u32 i;

	bh_sources_drop_left();
	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i] && !channels[i]->left)
			kept[i] = channels[i];
	result = bh_stack_set(kept, BH_CHANNELS_MAX);
	if (result)
		return result;
	/* The old stack holds them for the callers that are in it. */
	for (i = 0; i < BH_CHANNELS_MAX; i++)
		if (channels[i] && !kept[i]) {
			bh_mchannel_stop(channels[i]);
			bh_mchannel_put(channels[i]);
			channels[i] = NULL;
		}
	return want_notes();
}

static long exclude(const struct bh_module_pid *wanted, bool in)
{
	struct pid *pid;
	long result = 0;

	if (wanted->reserved)
		return -EINVAL;
	pid = find_get_pid(wanted->pid);
	if (!pid)
		return -ESRCH;
	if (in)
		bh_include(pid);
	else
		result = bh_exclude(pid);
	put_pid(pid);
	return result;
}

/* What a command brings: copied in once, and back where the command is one that reads. */
union argument {
	u32 channel; /* in those that are about one */
	struct bh_module_add add;
	struct bh_module_host host;
	struct bh_module_begin begin;
	struct bh_module_end end;
	struct bh_module_state state;
	struct bh_module_set_policy policy;
	struct bh_module_statistics statistics;
	struct bh_module_guard guard;
	struct bh_module_pid pid;
	struct bh_module_denial denial;
};

static long about_channel(unsigned int command, union argument *argument)
{
	struct bh_mchannel *channel = find(argument->channel);

	if (!channel)
		return -ENOENT;
	switch (command) {
	case BH_CONTROL_HOST:
		return argument->host.reserved ? -EINVAL : bh_host_create(channel);
	case BH_CONTROL_BEGIN:
		return begin(channel, &argument->begin);
	case BH_CONTROL_END:
		return end(channel, &argument->end);
	case BH_CONTROL_STATE:
		return set_state(channel, &argument->state);
	case BH_CONTROL_POLICY:
		return set_policy(channel, &argument->policy);
	default:
		return statistics(channel, &argument->statistics);
	}
}

static long control_locked(unsigned int command, union argument *argument)
{
	switch (command) {
	case BH_CONTROL_ADD:
		return add(&argument->add);
	case BH_CONTROL_HOST:
	case BH_CONTROL_BEGIN:
	case BH_CONTROL_END:
	case BH_CONTROL_STATE:
	case BH_CONTROL_POLICY:
	case BH_CONTROL_STATISTICS:
		return about_channel(command, argument);
	case BH_CONTROL_GUARD:
		return add_guard(&argument->guard);
	case BH_CONTROL_UNGUARD:
		bh_sources_disarm();
		return 0;
	case BH_CONTROL_EXCLUDE:
		return exclude(&argument->pid, false);
	case BH_CONTROL_INCLUDE:
		return exclude(&argument->pid, true);
	case BH_CONTROL_SETTLE:
		return settle();
	case BH_CONTROL_LEAVE:
		bh_sources_leave();
		return 0;
	case BH_CONTROL_DENIAL:
		return bh_denials_take(&argument->denial) ? 0 : -EAGAIN;
	default:
		return -ENOTTY;
	}
}

static long control_ioctl(struct file *file, unsigned int command, unsigned long pointer)
{
	void __user *theirs = (void __user *)pointer;
	size_t bytes = _IOC_SIZE(command);
	union argument argument = {};
	long result;

	if (bytes > sizeof(argument))
		return -ENOTTY;
	if (bytes && copy_from_user(&argument, theirs, bytes))
		return -EFAULT;
	if (mutex_lock_killable(&bh_control_mutex))
		return -EINTR;
	result = control_locked(command, &argument);
	mutex_unlock(&bh_control_mutex);
	if (!result && (_IOC_DIR(command) & _IOC_READ) && copy_to_user(theirs, &argument, bytes))
		return -EFAULT;
	return result;
}

static ssize_t control_read(struct file *file, char __user *buffer, size_t bytes, loff_t *offset)
{
	return bh_events_read(buffer, bytes, !(file->f_flags & O_NONBLOCK));
}

static __poll_t control_poll(struct file *file, poll_table *table)
{
	poll_wait(file, &bh_events_queue, table);
	return (bh_events_pending() ? EPOLLIN | EPOLLRDNORM : 0) |
	       (bh_denials_pending() ? EPOLLPRI : 0);
}

const struct file_operations bh_control_operations = {
	.owner = THIS_MODULE,
	.open = control_open,
	.release = control_release,
	.unlocked_ioctl = control_ioctl,
	.read = control_read,
	.poll = control_poll,
	.llseek = noop_llseek,
};
