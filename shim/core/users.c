// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Users over whose calls hosts fall: one can make files without number of which each is poison to
 * the driver (poison.c). So openers get strikes, too: for what they open of one owner, and for all
 * that they open. With three files' worth of them, if hosts had nothing else in hand, or six, each
 * fall within a minute of the one before, such calls are answered by policy for a minute; after
 * that one file more is enough. Of all that an opener opens it takes twice as many: an opener that
 * is made to open another's files is to lose those first. What root opens of root's gets none:
 * those calls are the machine's, and hosts that fall over them speak against the driver.
 *
 * Strikes are of one content. While new content is tried, hosts with the old and with the new one
 * take turns, and neither's strikes go for that.
 *
 * Written under the channel's lock, read without as long as nothing is found.
 */
#include "shim/core/internal.h"

#define USER_STRIKES 12u
#define USER_STRIKES_OF_ALL 24u
#define USER_STRIKES_AGAIN 4u /* two falls alone */
#define USER_NS 60000000000ull
#define USER_FORGOTTEN_NS (10 * USER_NS)

/* ---- Strikes ---- */

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
	bh_store_relaxed(&channel->guilt_known, channel->guilt_known - 1);
	bh_store_relaxed(&channel->users_known, channel->users_known - 1);
}

void bh_users_forget(struct bh_channel *channel)
{
	uint32_t i;

	for (i = 0; i < BH_USER_ENTRIES; i++)
		forget_user(channel, &channel->users[i]);
}

/* The entry of these users and the present content, or the one that is to become theirs. */
static struct bh_user *user_entry(struct bh_channel *channel, uint32_t opener, uint32_t owner)
{
	uint64_t version = bh_load_relaxed(&channel->content_version);
	struct bh_user *entry = channel->users, *found = entry;
	uint32_t i;

	for (i = 0; i < BH_USER_ENTRIES; i++, entry++) {
		if (entry->strikes && entry->opener == opener && entry->owner == owner &&
		    entry->version == version)
			return entry;
		if (entry->fell_ns < found->fell_ns) /* the free ones fell never */
			found = entry;
	}
	forget_user(channel, found);
	bh_store_relaxed(&found->opener, opener);
	bh_store_relaxed(&found->owner, owner);
	found->version = version;
	return found;
}

/* Not 0: the calls that it stands for are convicted now. */
static int strike_entry(struct bh_channel *channel, struct bh_user *entry, int alone,
			uint64_t now_ns)
{
	uint32_t strikes = entry->strikes;

	if (!strikes) {
		bh_store_relaxed(&channel->guilt_known, channel->guilt_known + 1);
		bh_store_relaxed(&channel->users_known, channel->users_known + 1);
	}
	bh_store_relaxed(&channel->users_last_ns, now_ns);
	if (strikes && now_ns >= entry->fell_ns + USER_NS)
		strikes = strikes < strikes_max(entry) ? 0
						       : strikes_max(entry) - USER_STRIKES_AGAIN;
	strikes += alone ? 2 : 1;
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

	if (bh_load_relaxed(&entry->strikes) < strikes_for(entry, guilt))
		return 0;
	/* An opener may hide on purpose: then it may be any of the suspicious. And that of a call
	 * over which a host fell may not have been known yet: then it may be this one. */
	if (!opener && guilt == BH_STRUCK)
		return 1;
	if (!bh_load_relaxed(&entry->opener) && guilt == BH_STRUCK)
		return theirs == owner;
	return bh_load_relaxed(&entry->opener) == opener &&
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
			bh_users_forget(channel);
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

uint32_t bh_users_count(const struct bh_channel *channel, uint64_t now_ns)
{
	uint32_t i, count = 0;

	for (i = 0; i < BH_USER_ENTRIES; i++)
		count += channel->users[i].strikes >= strikes_max(&channel->users[i]) &&
			 still_holds(channel, &channel->users[i], now_ns);
	return count;
}

/* ---- Whose calls a host had in hand ---- */

static void add_user(struct bh_in_hand *in_hand, uint32_t user)
{
	uint32_t i;

	for (i = 0; i < in_hand->count && i < BH_USERS_MAX; i++)
		if (in_hand->users[i] == user)
			return;
	if (i < BH_USERS_MAX)
		in_hand->users[i] = user;
	if (in_hand->count <= BH_USERS_MAX)
		in_hand->count++;
}

/* Whose the call in this slot is; of a slot that is used again it is not known. */
static void users_of(struct bh_channel *channel, uint32_t slot, uint64_t ticket, uint32_t *opener,
		     uint32_t *owner)
{
	const struct bh_call_slot *shared = bh_call_slot_at(channel, slot);
	int known = bh_load_acquire(&shared->ticket) == ticket;

	*opener = known ? bh_load_relaxed(&shared->opener) : 0;
	*owner = known ? bh_owner_of(bh_load_relaxed(&shared->owner)) : 0;
}

/* The slots from *slot on that have calls in the driver's hands. Those that gave up waiting count,
 * too: what they asked about is there. */
static int next_in_hand(struct bh_channel *channel, uint32_t generation, int violated,
			uint32_t *slot, uint32_t *opener, uint32_t *owner)
{
	uint64_t ticket;

	for (; *slot < channel->slot_count; ++*slot) {
		ticket = bh_had_in_hand(channel, *slot, generation, violated);
		if (ticket == BH_TICKET_NONE)
			continue;
		users_of(channel, *slot, ticket, opener, owner);
		return 1;
	}
	return 0;
}

struct bh_pair {
	uint32_t opener;
	uint32_t owner;
};

/* Of the pairs in hand, each once: how many are named, and whether there are others. */
static uint32_t pairs_in_hand(struct bh_channel *channel, uint32_t generation, int violated,
			      struct bh_pair pairs[BH_USERS_MAX], int *others)
{
	uint32_t slot, opener, owner, i, count = 0;

	*others = 0;
	for (slot = 0; next_in_hand(channel, generation, violated, &slot, &opener, &owner);
	     slot++) {
		for (i = 0; i < count; i++)
			if (pairs[i].opener == opener && pairs[i].owner == owner)
				break;
		if (i < count)
			continue;
		if (count == BH_USERS_MAX) {
			*others = 1;
			break;
		}
		pairs[count++] = (struct bh_pair){opener, owner};
	}
	return count;
}

static void tell_users(struct bh_in_hand *in_hand, const struct bh_pair *pairs, uint32_t count,
		       int others)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		if (pairs[i].opener > BH_OPENER_ROOT)
			add_user(in_hand, pairs[i].opener);
		if (pairs[i].owner > BH_OPENER_ROOT || pairs[i].opener <= BH_OPENER_ROOT)
			add_user(in_hand, pairs[i].owner);
	}
	if (others)
		in_hand->count = BH_USERS_MAX + 1;
}

static void strike(struct bh_channel *channel, uint32_t opener, uint32_t owner, int alone,
		   uint64_t now_ns)
{
	if (!strike_entry(channel, user_entry(channel, opener, owner), alone, now_ns))
		return;
	channel->in_hand.convicted_opener = opener;
	channel->in_hand.convicted_owner = owner;
}

static void strike_users(struct bh_channel *channel, const struct bh_pair *pairs, uint32_t count,
			 int others, uint64_t now_ns)
{
	uint32_t i, j, first_of_opener, openers = 0;

	for (i = 0; i < count; i++)
		if (pairs[i].opener > BH_OPENER_ROOT || pairs[i].owner > BH_OPENER_ROOT)
			strike(channel, pairs[i].opener, pairs[i].owner, count == 1 && !others,
			       now_ns);
	for (i = 0; i < count; i++)
		openers += pairs[i].opener != pairs[0].opener;
	for (i = 0; i < count; i++) {
		first_of_opener = 1;
		for (j = 0; j < i; j++)
			first_of_opener &= pairs[j].opener != pairs[i].opener;
		if (first_of_opener && pairs[i].opener > BH_OPENER_ROOT)
			strike(channel, pairs[i].opener, BH_USER_ANY, !openers && !others, now_ns);
	}
}

void bh_users_blame(struct bh_channel *channel, uint32_t generation, int violated, uint64_t now_ns)
{
	struct bh_pair pairs[BH_USERS_MAX];
	uint32_t i, count;
	int others;

	count = pairs_in_hand(channel, generation, violated, pairs, &others);
	if (others && !bh_may_blame(channel, 0)) /* whose those are is not known */
		return;
	for (i = 0; i < count; i++)
		if (!bh_may_blame(channel, pairs[i].owner))
			return;
	tell_users(&channel->in_hand, pairs, count, others);
	strike_users(channel, pairs, count, others, now_ns);
}
