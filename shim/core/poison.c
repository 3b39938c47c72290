// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Objects over which hosts fall. A call is poison when it has used up its own budget of hosts; the
 * next call about the same object would use up as many. So an object gets a strike for each host
 * that crashed, or hung, while all that its driver had in hand was about it. With the second it is
 * convicted: calls about it, in the state in which it was and by the content that fell, are
 * answered by policy. An answer wipes a strike off. While new content is tried, hosts with the old
 * and with the new one take turns; so a conviction is of the last two contents that fell.
 *
 * A wrong conviction denies a good file. While the driver has never answered it may be the driver
 * that is broken, and there is none but of users' own files, for its first hosts: a user that is
 * there first after a start must not get the driver quarantined, and what the machine needs is
 * root's. Of an object whose changes can't be seen none is remembered.
 *
 * Written under the channel's lock. SUBTLE: a call looks for its object without: it takes two words
 * of an entry each by itself, and what seems to be its object is looked at again under the lock.
 */
#include "shim/core/internal.h"

#define CONVICTED_MAX 8u /* so that strikes find room; the first convicted goes */

static int args_of(const struct bh_call *call, struct bh_file_args *args)
{
	if (!(bh_callback_flags(call->callback) & BH_CALLBACK_ABOUT_OBJECT) ||
	    call->args_bytes != sizeof(*args))
		return -1;
	bh_copy(args, call->args, sizeof(*args));
	return args->inode && args->change ? 0 : -1;
}

static struct bh_poison *entry_of(struct bh_channel *channel, uint64_t device, uint64_t inode)
{
	struct bh_poison *entry = channel->poison;
	uint32_t i;

	for (i = 0; i < BH_POISON_ENTRIES; i++, entry++)
		if (bh_load_relaxed(&entry->inode) == inode &&
		    bh_load_relaxed(&entry->device) == device)
			return entry;
	return NULL;
}

/* Of the present content. */
static int convicted_now(const struct bh_channel *channel, const struct bh_poison *entry)
{
	uint64_t version = bh_load_relaxed(&channel->content_version);

	return entry->convicted && (entry->version == version || entry->version_before == version);
}

enum bh_guilt bh_poison_find(struct bh_channel *channel, const struct bh_call *call)
{
	enum bh_guilt guilt = BH_INNOCENT;
	struct bh_file_args args;
	struct bh_poison *entry;

	if (args_of(call, &args) || !entry_of(channel, args.device, args.inode))
		return BH_INNOCENT;
	bh_lock_take(&channel->lock);
	entry = entry_of(channel, args.device, args.inode);
	if (entry)
		guilt = convicted_now(channel, entry) && entry->change == args.change ? BH_CONVICTED
										      : BH_STRUCK;
	bh_lock_drop(&channel->lock);
	return guilt;
}

/* The driver has answered a call, ever, or that may be (a take-over): else it may be the driver
 * that is broken. */
static int has_answered(const struct bh_channel *channel)
{
	uint32_t slot;

	if (channel->taken_over)
		return 1;
	for (slot = 0; slot < channel->slot_count; slot++)
		if (bh_load_relaxed(&channel->slots[slot].answered))
			return 1;
	return 0;
}

#define UNPROVEN_HOSTS 16u

int bh_may_blame(const struct bh_channel *channel, uint32_t owner)
{
	return has_answered(channel) ||
	       (owner > BH_OPENER_ROOT && channel->generations <= UNPROVEN_HOSTS);
}

static void drop(struct bh_channel *channel, struct bh_poison *entry)
{
	bh_store_relaxed(&entry->inode, 0ull);
	entry->convicted = 0;
	bh_store_relaxed(&channel->guilt_known, channel->guilt_known - 1);
}

/* The one whose strike or conviction is the oldest. */
static struct bh_poison *oldest(struct bh_channel *channel, int convicted)
{
	struct bh_poison *entry = channel->poison, *found = NULL;
	uint32_t i;

	for (i = 0; i < BH_POISON_ENTRIES; i++, entry++)
		if (entry->inode && !entry->convicted == !convicted &&
		    (!found || entry->order < found->order))
			found = entry;
	return found;
}

static uint32_t convicted(const struct bh_channel *channel)
{
	uint32_t i, count = 0;

	for (i = 0; i < BH_POISON_ENTRIES; i++)
		count += channel->poison[i].convicted != 0;
	return count;
}

static struct bh_poison *free_entry(struct bh_channel *channel)
{
	uint32_t i;

	for (i = 0; i < BH_POISON_ENTRIES; i++)
		if (!channel->poison[i].inode)
			return &channel->poison[i];
	return NULL;
}

static struct bh_poison *new_entry(struct bh_channel *channel, const struct bh_file_args *args)
{
	struct bh_poison *entry = free_entry(channel);

	if (!entry) {
		entry = oldest(channel, 0);
		drop(channel, entry);
	}
	entry->convicted = 0;
	bh_store_relaxed(&entry->device, args->device);
	bh_store_relaxed(&entry->inode, args->inode);
	bh_store_relaxed(&channel->guilt_known, channel->guilt_known + 1);
	return entry;
}

int bh_poison_strike(struct bh_channel *channel, uint32_t slot)
{
	uint64_t version = bh_load_relaxed(&channel->content_version);
	struct bh_file_args args;
	struct bh_poison *entry;
	int again;

	bh_copy(&args, bh_call_slot_at(channel, slot)->args, sizeof(args));
	if (!args.inode || !args.change ||
	    !bh_may_blame(channel, bh_load_relaxed(&bh_call_slot_at(channel, slot)->owner)))
		return 0;
	entry = entry_of(channel, args.device, args.inode);
	again = entry != NULL;
	if (!entry)
		entry = new_entry(channel, &args);
	if (again && !entry->convicted && convicted(channel) == CONVICTED_MAX)
		drop(channel, oldest(channel, 1));
	entry->order = ++channel->poison_order;
	if (!again || entry->change != args.change)
		entry->version_before = version;
	else if (entry->version != version)
		entry->version_before = entry->version;
	entry->change = args.change;
	entry->version = version;
	entry->convicted = again ? 1u : 0u;
	return again;
}

void bh_poison_wipe(struct bh_channel *channel, const struct bh_call *call)
{
	struct bh_file_args args;
	struct bh_poison *entry;

	if (args_of(call, &args))
		return;
	bh_lock_take(&channel->lock);
	entry = entry_of(channel, args.device, args.inode);
	if (entry && !entry->convicted) /* else it was in another state, or by other content */
		drop(channel, entry);
	bh_lock_drop(&channel->lock);
}

uint32_t bh_poison_count(const struct bh_channel *channel)
{
	uint32_t i, count = 0;

	for (i = 0; i < BH_POISON_ENTRIES; i++)
		count += convicted_now(channel, &channel->poison[i]) != 0;
	return count;
}

void bh_channel_forgive(struct bh_channel *channel)
{
	uint32_t i;

	bh_lock_take(&channel->lock);
	for (i = 0; i < BH_POISON_ENTRIES; i++)
		if (channel->poison[i].inode)
			drop(channel, &channel->poison[i]);
	bh_users_forget(channel);
	bh_lock_drop(&channel->lock);
}
