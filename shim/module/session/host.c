// SPDX-License-Identifier: GPL-2.0-only
/*
 * The descriptor of a driver host, and all that a host can do: map, wait, wake, ring, fetch. What
 * it asks for is checked here; what it writes into the reply region, the core checks.
 */
#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "ipc/abi/end.h"
#include "shim/module/session/session.h"
#include "shim/module/session/kernels.h"

struct bh_host {
	struct bh_mchannel *channel;
	const struct cred *opener; /* whose rights open files for it */
	struct pid *process;       /* that mapped the reply region first; NULL: none did */
	atomic_t mappings;         /* of the reply region, which only that process has */
	u32 generation;            /* 0: not begun; written under bh_control_mutex */
};

static struct bh_host_line *host_line(const struct bh_mchannel *channel)
{
	return channel->reply_region;
}

/* NULL: there is no such worker. */
static u32 *sleeping_word(const struct bh_mchannel *channel, u64 worker)
{
	struct bh_notification_reader *reader = channel->reply_region +
						BH_NOTIFICATION_READER_OFFSET;

	if (worker == BH_WORKER_NOTIFICATIONS)
		return &reader->sleeping;
	return worker < BH_WORKERS_MAX ? &host_line(channel)->sleeping[worker] : NULL;
}

static struct bh_reply_slot *reply_slot(const struct bh_mchannel *channel, u32 slot)
{
	return channel->reply_region + bh_reply_slot_offset(slot);
}

/* Of a process that ends, wait(2)'s status; -1: it goes on. */
static int exit_status(const struct task_struct *leader)
{
	const struct signal_struct *signal = leader->signal;

	if (READ_ONCE(signal->flags) & SIGNAL_GROUP_EXIT)
		return signal->group_exit_code;
	return atomic_read(&signal->live) ? -1 : leader->exit_code;
}

/*
 * How the host of this generation ended: enum bh_end, by the same rules as in the supervisor.
 * BH_END_NONE: it goes on.
 *
 * It is the process that had the regions mapped that counts, not the one that happens to close the
 * last descriptor or mapping, which may be a child that outlives it.
 */
static u32 end_of(const struct bh_host *host, u32 generation)
{
	const struct bh_mchannel *channel = host->channel;
	u64 convicted = READ_ONCE(channel->convicted);
	struct pid *process = READ_ONCE(host->process);
	struct task_struct *leader;
	u32 end = BH_END_KILLED; /* its parent has reaped it, and knows better */
	int status = 0;

	rcu_read_lock();
	leader = pid_task(process ? process : task_tgid(current), PIDTYPE_TGID);
	if (leader) {
		status = exit_status(leader);
		end = bh_end_of_exit(status);
		if (end == BH_END_KILLED && tsk_is_oom_victim(leader))
			end = BH_END_STARVED;
	}
	rcu_read_unlock();
	if (status < 0)
		return BH_END_NONE;
	if (end == BH_END_STOPPED && !READ_ONCE(channel->draining))
		return BH_END_CRASHED; /* it left without being asked to */
	if (end == BH_END_KILLED && (u32)(convicted >> 32) == generation)
		return (u32)convicted; /* by its supervisor */
	return end;
}

/*
 * The host has no mapping any more, or (released) no descriptor either. One that lives may map it
 * again in the first case; in the second it can answer nothing any more. In user mode that would
 * come out at the next deadline: it counts as hung, and its supervisor is told to end it.
 */
static void end_generation(const struct bh_host *host, bool released)
{
	struct bh_mchannel *channel = host->channel;
	u32 generation = READ_ONCE(host->generation);
	u32 end, shown;

	if (!generation)
		return;
	end = shown = end_of(host, generation);
	if (shown == BH_END_NONE) {
		if (!released)
			return;
		end = READ_ONCE(channel->draining) ? BH_END_STOPPED : BH_END_HUNG;
	}
	/* Not an error when it has ended already: the supervisor may have been told first. */
	if (bh_mchannel_end(channel, generation, end))
		return;
	if (shown == BH_END_NONE && end == BH_END_HUNG && !READ_ONCE(channel->left))
		bh_events_post(channel->number, BH_EVENT_HUNG, 0, generation, 0);
}

static void mapping_open(struct vm_area_struct *vma)
{
	struct bh_host *host = vma->vm_private_data;

	atomic_inc(&host->mappings);
}

/* SUBTLE: a full barrier, as in bh_host_begin(): one of both sees the other's store. */
static void mapping_close(struct vm_area_struct *vma)
{
	struct bh_host *host = vma->vm_private_data;

	if (atomic_dec_and_test(&host->mappings))
		end_generation(host, false);
}

/* Of the reply region. A mapping keeps its descriptor, and so the channel. No partial unmaps are
 * refused: what a host loses is its own. */
static const struct vm_operations_struct reply_operations = {
	.open = mapping_open,
	.close = mapping_close,
};

static void mapped(struct bh_host *host, struct vm_area_struct *vma)
{
	struct pid *process = task_tgid(current);

	vma->vm_private_data = host;
	vma->vm_ops = &reply_operations;
	atomic_inc(&host->mappings);
	get_pid(process);
	if (cmpxchg(&host->process, NULL, process))
		put_pid(process);
}

static int map(struct file *file, struct vm_area_struct *vma)
{
	struct bh_host *host = file->private_data;
	struct bh_mchannel *channel = host->channel;
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	size_t bytes = vma->vm_end - vma->vm_start;
	void *region;
	int result;

	if (offset == 0 && bytes == bh_call_region_bytes(&channel->made.spec.geometry)) {
		if (vma->vm_flags & VM_WRITE)
			return -EPERM;
		vm_flags_clear(vma, VM_MAYWRITE);
		region = channel->call_region;
	} else if (offset == BH_MODULE_NOTIFY_OFFSET && channel->notify_region &&
		   bytes == bh_notification_region_bytes(channel->made.spec.notify_entries)) {
		if (vma->vm_flags & VM_WRITE)
			return -EPERM;
		vm_flags_clear(vma, VM_MAYWRITE);
		region = channel->notify_region;
	} else if (offset == BH_MODULE_REPLY_OFFSET &&
		   bytes == bh_reply_region_bytes(&channel->made.spec.geometry)) {
		region = channel->reply_region;
	} else {
		return -EINVAL;
	}
	/* A private copy would show no words but its own. */
	if (!(vma->vm_flags & VM_SHARED) || (vma->vm_flags & VM_EXEC))
		return -EINVAL;
	vm_flags_clear(vma, VM_MAYEXEC);
	vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_pgoff = 0;
	result = remap_vmalloc_range(vma, region, 0);
	if (result)
		return result;
	if (region == channel->reply_region)
		mapped(host, vma);
	return 0;
}

static long wait_for_call(struct bh_mchannel *channel, void __user *argument)
{
	struct bh_module_wait wait;
	u32 *word, announced;
	int result;

	if (copy_from_user(&wait, argument, sizeof(wait)))
		return -EFAULT;
	word = sleeping_word(channel, wait.worker);
	if (!word || wait.reserved)
		return -EINVAL;
	/* SUBTLE: the host's to write, and ours to set to 0 before a wake: what it was is compared
	 * once more when we are in the queue. */
	announced = READ_ONCE(*word);
	if (!announced)
		return 0;
	result = bh_word_wait(word, announced, wait.until_ns, TASK_INTERRUPTIBLE);
	if (result == -ERESTARTSYS)
		return -EINTR;
	return result == -ETIME ? -ETIMEDOUT : 0;
}

static long fetch(struct bh_host *host, void __user *argument)
{
	struct bh_module_fetch wanted;

	if (copy_from_user(&wanted, argument, sizeof(wanted)))
		return -EFAULT;
	if (wanted.reserved)
		return -EINVAL;
	return bh_call_files_fetch(&host->channel->files, wanted.slot, wanted.ticket, host->opener);
}

static long ring_info(const struct bh_mchannel *channel, void __user *argument)
{
	struct bh_module_ring ring = {.entries = channel->made.spec.notify_entries};

	return copy_to_user(argument, &ring, sizeof(ring)) ? -EFAULT : 0;
}

static long host_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct bh_host *host = file->private_data;
	struct bh_mchannel *channel = host->channel;
	void __user *pointer = (void __user *)argument;

	switch (command) {
	case BH_HOST_INFO:
		return copy_to_user(pointer, &channel->made.spec.geometry,
				    sizeof(channel->made.spec.geometry))
			       ? -EFAULT
			       : 0;
	case BH_HOST_WAIT:
		return wait_for_call(channel, pointer);
	case BH_HOST_WAKE:
		if (!sleeping_word(channel, argument))
			return -EINVAL;
		bh_word_wake(sleeping_word(channel, argument));
		return 0;
	case BH_HOST_RING:
		if (argument >= channel->slots)
			return -EINVAL;
		bh_word_wake(&reply_slot(channel, argument)->bell);
		return 0;
	case BH_HOST_FETCH:
		return fetch(host, pointer);
	case BH_HOST_RING_INFO:
		return ring_info(channel, pointer);
	default:
		return -ENOTTY;
	}
}

static void free_host(struct bh_host *host)
{
	put_pid(host->process);
	put_cred(host->opener);
	bh_mchannel_put(host->channel);
	kfree(host);
}

static int host_release(struct inode *inode, struct file *file)
{
	struct bh_host *host = file->private_data;
	struct bh_mchannel *channel = host->channel;

	mutex_lock(&bh_control_mutex);
	if (channel->next_host == host)
		channel->next_host = NULL;
	channel->hosts--;
	end_generation(host, true);
	mutex_unlock(&bh_control_mutex);
	free_host(host);
	return 0;
}

static const struct file_operations host_operations = {
	.owner = THIS_MODULE,
	.mmap = map,
	.unlocked_ioctl = host_ioctl,
	.release = host_release,
	.llseek = noop_llseek,
};

int bh_host_create(struct bh_mchannel *channel)
{
	struct bh_host *host = kzalloc(sizeof(*host), GFP_KERNEL_ACCOUNT);
	int fd;

	if (!host)
		return -ENOMEM;
	host->channel = channel;
	host->opener = get_current_cred();
	kref_get(&channel->ref);
	fd = anon_inode_getfd("[bulkhead-host]", &host_operations, host, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		free_host(host);
		return fd;
	}
	channel->next_host = host;
	channel->hosts++;
	return fd;
}

int bh_host_begin(struct bh_mchannel *channel, const struct bh_generation_spec *wanted)
{
	struct bh_generation_spec spec = *wanted;
	struct bh_host *host = channel->next_host;

	if (!host)
		return -ENOENT;
	/* Each supervisor counts its contents anew: verdicts about another's are not to be found.
	 */
	spec.content_version |= (u64)channel->continued << 48;
	if (bh_channel_begin_generation(channel->core, &spec))
		return -EINVAL;
	channel->highest = spec.generation;
	channel->notify_kinds = channel->notify_region ? spec.notifications : bh_set_none();
	channel->next_host = NULL;
	WRITE_ONCE(channel->draining, false);
	WRITE_ONCE(host->generation, spec.generation);
	/* SUBTLE: it may have lost its mapping, that is its life, before there was a generation to
	 * end. `process` is set after the first mapping was counted. */
	smp_mb();
	if (READ_ONCE(host->process) && !atomic_read_acquire(&host->mappings))
		end_generation(host, false);
	return 0;
}
