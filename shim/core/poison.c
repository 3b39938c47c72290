// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Objects over which hosts fall. A call is poison when it has used up its own budget of hosts; the
 * next call about the same object would use up as many. So an object gets a strike for each host
 * that crashed, or hung, while all that its driver had in hand was about it. With the second it is
 * convicted: calls about it, in the state in which it was and by the content that fell, are
 * answered by policy. An answer wipes a strike off.
 *
 * A wrong conviction denies a good file. There is none while the driver has never answered: then it
 * is the driver that is broken. Of an object whose changes can't be seen none is remembered.
 *
 * A user can make such files without number. So openers get strikes, too: for what they open of one
 * owner, and for all that they open. With three files' worth of them, if hosts had nothing else in
 * hand, or six, each fall within a minute of the one before, such calls are answered by policy for
 * a minute; after that one file more is enough. Of all that an opener opens it takes twice as many:
 * an opener that is made to open another's files is to lose those first. What root opens of root's
 * gets none: those calls are the machine's, and hosts that fall over them speak against the driver.
 *
 * Written under the channel's lock. SUBTLE: a call looks for its object without: it takes two words
 * of an entry each by itself, and what seems to be its object is looked at again under the lock.
 */
#include "shim/core/internal.h"

#define CONVICTED_MAX 8u /* so that strikes find room; the first convicted goes */
#define USER_STRIKES 12u
#define USER_STRIKES_OF_ALL 24u
#define USER_STRIKES_AGAIN 4u /* two falls alone */
#define USER_NS 60000000000ull
#define USER_FORGOTTEN_NS (10 * USER_NS)

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
		guilt = entry->convicted && entry->change == args.change &&
					entry->version == bh_load_relaxed(&channel->content_version)
				? BH_CONVICTED
				: BH_STRUCK;
	bh_lock_drop(&channel->lock);
	return guilt;
}

int bh_has_answered(const struct bh_channel *channel)
{
	uint32_t slot;

	if (channel->taken_over)
		return 1;
	for (slot = 0; slot < channel->slot_count; slot++)
		if (bh_load_relaxed(&channel->slots[slot].answered))
			return 1;
	return 0;
}

static void drop(struct bh_channel *channel, struct bh_poison *entry)
{
	bh_store_relaxed(&entry->inode, 0ull);
	entry->convicted = 0;
	bh_store_relaxed(&channel->poison_known, channel->poison_known - 1);
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
	bh_store_relaxed(&channel->poison_known, channel->poison_known + 1);
	return entry;
}

int bh_poison_strike(struct bh_channel *channel, uint32_t slot)
{
	uint64_t version = bh_load_relaxed(&channel->content_version);
	struct bh_file_args args;
	struct bh_poison *entry;
	int again;

	bh_copy(&args, bh_call_slot_at(channel, slot)->args, sizeof(args));
	if (!args.inode || !args.change || !bh_has_answered(channel))
		return 0;
	entry = entry_of(channel, args.device, args.inode);
	again = entry != NULL;
	if (!entry)
		entry = new_entry(channel, &args);
	if (again && !entry->convicted && convicted(channel) == CONVICTED_MAX)
		drop(channel, oldest(channel, 1));
	entry->order = ++channel->poison_order;
	entry->change = args.change;
	entry->version = version;
	entry->convicted = again ? 1u : 0u;
	return again;
}

static uint32_t strikes_max(const struct bh_user *entry)
{
	return bh_load_relaxed(&entry->owner) == BH_USER_ANY ? USER_STRIKES_OF_ALL : USER_STRIKES;
}

static void forget_user(struct bh_channel *channel, struct bh_user *entry)
{
	if (!entry->strikes)
		return;
	bh_store_relaxed(&entry->strikes, 0u);
	entry->fell_ns = 0;
	bh_store_relaxed(&channel->poison_known, channel->poison_known - 1);
	bh_store_relaxed(&channel->users_known, channel->users_known - 1);
}

static void forget_users(struct bh_channel *channel)
{
	uint32_t i;

	for (i = 0; i < BH_USER_ENTRIES; i++)
		forget_user(channel, &channel->users[i]);
}

/* The entry of these users, or the one that is to become theirs. */
static struct bh_user *user_entry(struct bh_channel *channel, uint32_t opener, uint32_t owner)
{
	struct bh_user *entry = channel->users, *found = entry;
	uint32_t i;

	for (i = 0; i < BH_USER_ENTRIES; i++, entry++) {
		if (entry->strikes && entry->opener == opener && entry->owner == owner)
			return entry;
		if (entry->fell_ns < found->fell_ns) /* the free ones fell never */
			found = entry;
	}
	forget_user(channel, found);
	bh_store_relaxed(&found->opener, opener);
	bh_store_relaxed(&found->owner, owner);
	return found;
}

int bh_user_strike(struct bh_channel *channel, uint32_t opener, uint32_t owner, int alone,
		   uint64_t now_ns)
{
	uint64_t version = bh_load_relaxed(&channel->content_version);
	struct bh_user *entry = user_entry(channel, opener, owner);
	uint32_t strikes = entry->strikes;

	if (!strikes) {
		bh_store_relaxed(&channel->poison_known, channel->poison_known + 1);
		bh_store_relaxed(&channel->users_known, channel->users_known + 1);
	}
	bh_store_relaxed(&channel->users_last_ns, now_ns);
	if (entry->version != version)
		strikes = 0;
	else if (strikes && now_ns >= entry->fell_ns + USER_NS)
		strikes = strikes < strikes_max(entry) ? 0
						       : strikes_max(entry) - USER_STRIKES_AGAIN;
	strikes += alone ? 2 : 1;
	entry->version = version;
	entry->fell_ns = now_ns;
	bh_store_relaxed(&entry->strikes, strikes);
	return strikes >= strikes_max(entry);
}

/* Strikes from which on calls are suspicious, or convicted. */
static uint32_t strikes_for(const struct bh_user *entry, enum bh_guilt guilt)
{
	return guilt == BH_CONVICTED ? strikes_max(entry) : 1;
}

static int concerns(const struct bh_user *entry, uint32_t opener, uint32_t owner,
		    enum bh_guilt guilt)
{
	uint32_t theirs = bh_load_relaxed(&entry->owner);

	return bh_load_relaxed(&entry->strikes) >= strikes_for(entry, guilt) &&
	       bh_load_relaxed(&entry->opener) == opener &&
	       (theirs == owner || theirs == BH_USER_ANY);
}

static int still_holds(const struct bh_channel *channel, const struct bh_user *entry,
		       uint64_t now_ns)
{
	return now_ns < entry->fell_ns + USER_NS &&
	       entry->version == bh_load_relaxed(&channel->content_version);
}

int bh_user_is(struct bh_channel *channel, uint32_t opener, uint32_t owner, enum bh_guilt guilt,
	       uint64_t now_ns)
{
	struct bh_user *entry = channel->users;
	int found = 0;
	uint32_t i;

	if (!bh_load_relaxed(&channel->users_known))
		return 0;
	/* SUBTLE: a fall of just now may be missed, as if it had come a moment later. */
	if (now_ns >= bh_load_relaxed(&channel->users_last_ns) + USER_FORGOTTEN_NS) {
		bh_lock_take(&channel->lock);
		if (now_ns >= channel->users_last_ns + USER_FORGOTTEN_NS)
			forget_users(channel);
		bh_lock_drop(&channel->lock);
	}
	for (i = 0; i < BH_USER_ENTRIES; i++, entry++) {
		if (!concerns(entry, opener, owner, guilt))
			continue;
		bh_lock_take(&channel->lock);
		found |= concerns(entry, opener, owner, guilt) &&
			 still_holds(channel, entry, now_ns);
		bh_lock_drop(&channel->lock);
	}
	return found;
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
	uint64_t version = bh_load_relaxed(&channel->content_version);
	uint32_t i, count = 0;

	for (i = 0; i < BH_POISON_ENTRIES; i++)
		count += channel->poison[i].convicted && channel->poison[i].version == version;
	for (i = 0; i < BH_USER_ENTRIES; i++)
		count += channel->users[i].strikes >= strikes_max(&channel->users[i]) &&
			 channel->users[i].version == version;
	return count;
}

void bh_channel_forgive(struct bh_channel *channel)
{
	uint32_t i;

	bh_lock_take(&channel->lock);
	for (i = 0; i < BH_POISON_ENTRIES; i++)
		if (channel->poison[i].inode)
			drop(channel, &channel->poison[i]);
	forget_users(channel);
	bh_lock_drop(&channel->lock);
}
