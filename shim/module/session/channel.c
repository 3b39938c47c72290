// SPDX-License-Identifier: GPL-2.0-only
/* A channel's memory, and the files of its calls. */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "shim/module/session/module.h"

static void release(struct kref *ref)
{
	struct bh_mchannel *channel = container_of(ref, struct bh_mchannel, ref);

	vfree(channel->files);
	vfree(channel->call_region);
	vfree(channel->reply_region);
	vfree(channel->notify_region);
	vfree(channel->private);
	kfree(channel);
}

void bh_mchannel_put(struct bh_mchannel *channel)
{
	kref_put(&channel->ref, release);
}

struct bh_mchannel *bh_mchannel_create(const struct bh_module_add *add, u32 number)
{
	struct bh_channel_config config;
	struct bh_mchannel *channel;
	size_t private_bytes;

	BUILD_BUG_ON(BH_MODULE_CHANNELS_MAX != BH_CHANNELS_MAX);
	bh_channel_config_default(&config);
	config.geometry = add->geometry;
	config.policy = add->policy;
	config.altitude = add->altitude;
	config.spin_ns = add->spin_ns;
	config.cache_entries = add->cache_entries;
	config.without_paths = add->without_paths;
	config.notify_entries = add->notify_entries;
	private_bytes = bh_channel_private_bytes(&config);
	if (!private_bytes)
		return ERR_PTR(-EINVAL);
	channel = kzalloc(sizeof(*channel), GFP_KERNEL_ACCOUNT);
	if (!channel)
		return ERR_PTR(-ENOMEM);
	kref_init(&channel->ref);
	spin_lock_init(&channel->files_lock);
	channel->number = number;
	channel->made = *add;
	channel->geometry = add->geometry;
	channel->slots = bh_slot_count(&add->geometry);
	channel->private = vzalloc(private_bytes);
	channel->call_region = vmalloc_user(bh_call_region_bytes(&add->geometry));
	channel->reply_region = vmalloc_user(bh_reply_region_bytes(&add->geometry));
	channel->notify_entries = add->notify_entries;
	if (add->notify_entries)
		channel->notify_region = vmalloc_user(
			bh_notification_region_bytes(add->notify_entries));
	channel->files = vcalloc(channel->slots, sizeof(*channel->files));
	if (!channel->private || !channel->call_region || !channel->reply_region ||
	    !channel->files || (add->notify_entries && !channel->notify_region)) {
		bh_mchannel_put(channel);
		return ERR_PTR(-ENOMEM);
	}
	config.cookie = channel;
	config.notify_region = channel->notify_region;
	channel->core = bh_channel_init(channel->private, &config, bh_kernel_platform(),
					channel->call_region, channel->reply_region);
	if (!channel->core) {
		bh_mchannel_put(channel);
		return ERR_PTR(-EINVAL);
	}
	return channel;
}

int bh_mchannel_continue(struct bh_mchannel *channel, const struct bh_module_add *add)
{
	/* It could still answer for its successor: nobody but its parent had power over it. */
	if (channel->hosts)
		return -EBUSY;
	if (bh_channel_set_policy(channel->core, &add->policy))
		return -EINVAL;
	bh_channel_set_quarantined(channel->core, 0);
	bh_channel_set_draining(channel->core, 0);
	channel->continued++;
	/* SUBTLE: events read it without a lock: one of just now goes to the old or the new one. */
	WRITE_ONCE(channel->left, false);
	return 0;
}

void bh_mchannel_stop(struct bh_mchannel *channel)
{
	bh_channel_set_quarantined(channel->core, 1);
	/* The last one, which may drain or be detached and yet have calls. Does nothing when it has
	 * ended. */
	bh_channel_end_generation(channel->core, channel->highest, BH_END_KILLED);
}

void bh_mcall_forget_file(struct bh_mcall *mcall)
{
	struct bh_mchannel *channel = mcall->file_channel;

	if (!channel)
		return;
	spin_lock(&channel->files_lock);
	/* The slot may have another call by now, perhaps with a file of the same path. */
	if (channel->files[mcall->file_slot].ticket == mcall->file_ticket)
		channel->files[mcall->file_slot].path = NULL;
	spin_unlock(&channel->files_lock);
	mcall->file_channel = NULL;
}

int bh_mchannel_fetch(struct bh_mchannel *channel, u32 slot, u64 ticket, const struct cred *opener)
{
	struct path path = {};
	struct file *file;
	int fd;

	if (slot >= channel->slots || ticket == BH_TICKET_NONE)
		return -ENOENT;
	spin_lock(&channel->files_lock);
	if (channel->files[slot].path && channel->files[slot].ticket == ticket) {
		path = *channel->files[slot].path;
		path_get(&path);
	}
	spin_unlock(&channel->files_lock);
	if (!path.dentry)
		return -ENOENT;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto put_path;
	/* Its own accesses to this file cause no calls; what it may read, the operator's
	 * supervisor may. */
	file = dentry_open(&path, O_RDONLY | O_LARGEFILE | O_NOATIME | (__force int)FMODE_NONOTIFY,
			   opener);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
	} else {
		fd_install(fd, file);
	}
put_path:
	path_put(&path);
	return fd;
}
