// SPDX-License-Identifier: GPL-2.0-only
/* A channel's memory, and its life. */
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "shim/module/session/session.h"

static void release(struct kref *ref)
{
	struct bh_mchannel *channel = container_of(ref, struct bh_mchannel, ref);

	bh_call_files_exit(&channel->files);
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
	config.spec = add->spec;
	private_bytes = bh_channel_private_bytes(&config);
	if (!private_bytes)
		return ERR_PTR(-EINVAL);
	channel = kzalloc(sizeof(*channel), GFP_KERNEL_ACCOUNT);
	if (!channel)
		return ERR_PTR(-ENOMEM);
	kref_init(&channel->ref);
	channel->number = number;
	channel->made = *add;
	channel->slots = bh_slot_count(&add->spec.geometry);
	channel->private = vzalloc(private_bytes);
	channel->call_region = vmalloc_user(bh_call_region_bytes(&add->spec.geometry));
	channel->reply_region = vmalloc_user(bh_reply_region_bytes(&add->spec.geometry));
	if (add->spec.notify_entries)
		channel->notify_region = vmalloc_user(
			bh_notification_region_bytes(add->spec.notify_entries));
	if (bh_call_files_init(&channel->files, channel->slots) || !channel->private ||
	    !channel->call_region || !channel->reply_region ||
	    (add->spec.notify_entries && !channel->notify_region)) {
		bh_mchannel_put(channel);
		return ERR_PTR(-ENOMEM);
	}
	channel->last_end = BH_END_NONE;
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
	/* A host of the dead supervisor may still run and could write replies for the next one. */
	if (channel->hosts)
		return -EBUSY;
	if (bh_channel_set_policy(channel->core, &add->spec.policy))
		return -EINVAL;
	bh_channel_set_quarantined(channel->core, 0);
	bh_channel_set_draining(channel->core, 0);
	channel->draining = false;
	channel->continued++;
	/* SUBTLE: events read it without a lock: one of just now goes to the old or the new one. */
	WRITE_ONCE(channel->left, false);
	return 0;
}

int bh_mchannel_end(struct bh_mchannel *channel, u32 generation, u32 end)
{
	int result = bh_channel_end_generation(channel->core, generation, end);

	if (!result)
		WRITE_ONCE(channel->last_end, end);
	return result;
}

void bh_mchannel_stop(struct bh_mchannel *channel)
{
	bh_channel_set_quarantined(channel->core, 1);
	/* The last one, which may drain or be detached and yet have calls. Does nothing when it has
	 * ended. */
	bh_mchannel_end(channel, channel->highest, BH_END_KILLED);
}
