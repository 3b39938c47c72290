// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The writing side of the notification ring. See ipc/abi/notification.h.
 *
 * One short lock for each ring, and interrupts off under it in the kernel: a source may be an
 * interrupt. What is done under it is bounded, two loads of the host's memory and one entry copied
 * for each of AT_ONCE notifications at most, and there is no wake in it. Producers that reserve a
 * place each and fill it unlocked would hold up the reader, or each other at the ring's end,
 * whenever one of them is interrupted between the two, and the sum of delivered and lost would not
 * be exact at any one time. A lock that is short is simpler, and as a producer's line it is the
 * only thing that producers share.
 *
 * A sleeping reader is woken after the lock: it announces, fences, and looks at the next entry; we
 * publish, fence, and look for the announcement. One of the two sees the other.
 *
 * SUBTLE: `kinds` is read without the lock, and so is `serving`: what happens while they change is
 * told or not, or lost for the cause before, as if it had happened a moment earlier. The header's
 * counts are stored relaxed: the publication behind them orders `written` and `accepted` for
 * whoever reads an entry, and the others are figures.
 */
#include "shim/core/internal.h"

/* Notifications that are put into the ring under one taking of its lock. */
#define AT_ONCE 32u

static struct bh_notification_header *header_of(const struct bh_ring *ring)
{
	return (void *)ring->region;
}

static struct bh_notification_entry *entry_at(const struct bh_ring *ring, uint64_t position)
{
	return (void *)(ring->region + bh_notification_entry_offset(ring->entries, position));
}

static uint64_t lost_sum(const struct bh_ring *ring)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < BH_LOST_COUNT; i++)
		sum += ring->lost[i];
	return sum;
}

/*
 * The header is the dead shim's: no host can write it. It may have died between the count of an
 * entry and its publication, or before it counted a loss: nobody knows of these.
 */
static void adopt(struct bh_ring *ring)
{
	const struct bh_notification_header *header = header_of(ring);
	const struct bh_notification_entry *last;
	uint32_t i;

	ring->written = header->written;
	ring->accepted = header->accepted;
	for (i = 0; i < BH_LOST_COUNT; i++)
		ring->lost[i] = header->lost[i];
	if (ring->written &&
	    bh_load_acquire(&entry_at(ring, ring->written - 1)->published) != ring->written)
		ring->written--;
	ring->published = ring->written;
	if (!ring->written)
		return;
	last = entry_at(ring, ring->written - 1);
	ring->lost_at_last = last->number - ring->written;
}

void bh_ring_init(struct bh_channel *channel, const struct bh_channel_config *config)
{
	struct bh_ring *ring = &channel->ring;
	struct bh_notification_header *header;

	bh_lock_init(&ring->lock);
	if (!config->notify_entries)
		return;
	ring->region = config->notify_region;
	ring->reader = (void *)(channel->reply_region + BH_NOTIFICATION_READER_OFFSET);
	ring->entries = config->notify_entries;
	header = header_of(ring);
	if (config->adopt && header->magic == BH_NOTIFICATION_MAGIC)
		adopt(ring);
	header->magic = BH_NOTIFICATION_MAGIC;
	header->version = BH_NOTIFICATION_VERSION;
	header->entries = ring->entries;
	header->entry_bytes = BH_NOTIFICATION_ENTRY_BYTES;
	header->bytes = bh_notification_region_bytes(ring->entries);
	bh_store_relaxed(&header->written, ring->written);
}

void bh_channel_set_notifications(struct bh_channel *channel, uint64_t kinds)
{
	bh_store_relaxed(&channel->ring.kinds, channel->ring.region ? kinds : 0);
}

/*
 * Takes the host's word for how far it has read, if it can be true: it has read nothing that is not
 * published yet. Acquire: what the host copied before it said so is not overwritten under its
 * hands. Not 0: the word can't be true.
 */
static int look_at_reader(struct bh_ring *ring)
{
	uint64_t claimed = bh_load_acquire(&ring->reader->read);

	if (claimed - ring->accepted > ring->published - ring->accepted)
		return 1;
	ring->accepted = claimed;
	bh_store_relaxed(&header_of(ring)->accepted, claimed);
	return 0;
}

/* enum bh_notification_loss, or BH_LOST_COUNT: there is room. */
static uint32_t room(const struct bh_channel *channel, struct bh_ring *ring)
{
	int lied;

	if (ring->written - ring->accepted < ring->entries)
		return BH_LOST_COUNT;
	lied = look_at_reader(ring);
	if (ring->written - ring->accepted < ring->entries)
		return BH_LOST_COUNT;
	if (!bh_load_relaxed(&channel->serving))
		return BH_LOST_ABSENT;
	return lied ? BH_LOST_CURSOR : BH_LOST_FULL;
}

/* Each of two texts gets half of the room, or what the other leaves. */
static size_t text_room(size_t bytes, size_t other)
{
	size_t half = BH_NOTIFICATION_TEXT_BYTES / 2;
	size_t room = other < half ? BH_NOTIFICATION_TEXT_BYTES - other : half;

	return bytes < room ? bytes : room;
}

static void put(struct bh_ring *ring, const struct bh_notification *n)
{
	struct bh_notification_entry *entry = entry_at(ring, ring->written);
	size_t text = text_room(n->text_bytes, n->text2_bytes);
	size_t text2 = text_room(n->text2_bytes, n->text_bytes);
	uint64_t lost = lost_sum(ring);

	/* From the end to the beginning: the reader polls line 0, and would fetch it twice. */
	if (text2)
		bh_copy(entry->text + text, n->text2, text2);
	if (text)
		bh_copy(entry->text, n->text, text);
	bh_copy_words(entry->body, &n->body, sizeof(entry->body));
	entry->kind = (uint16_t)n->kind;
	entry->flags = (uint16_t)((text < n->text_bytes ? BH_NOTIFICATION_TEXT_CUT : 0) |
				  (text2 < n->text2_bytes ? BH_NOTIFICATION_TEXT2_CUT : 0));
	entry->text_bytes = (uint16_t)text;
	entry->text2_bytes = (uint16_t)text2;
	entry->number = ring->written + 1 + lost;
	entry->missed = lost - ring->lost_at_last;
	entry->time_ns = n->time_ns;
	entry->start_ns = n->start_ns;
	entry->cgroup = n->cgroup;
	entry->pid = n->pid;
	entry->parent = n->parent;
	entry->uid = n->uid;
	entry->gid = n->gid;
	ring->lost_at_last = lost;
	ring->written++;
}

/* What was put in since the last time. */
static void publish(struct bh_ring *ring)
{
	while (ring->published != ring->written) {
		struct bh_notification_entry *entry = entry_at(ring, ring->published);

		ring->published++;
		/* In this order: a host that has read it may die at once, and the next one believes
		 * no word that is ahead of this count. */
		bh_store_relaxed(&header_of(ring)->written, ring->published);
		bh_store_release(&entry->published, ring->published);
	}
}

/* Not 0: it is in the ring. */
static int put_or_lose(const struct bh_channel *channel, struct bh_ring *ring,
		       const struct bh_notification *notification)
{
	uint32_t cause = room(channel, ring);

	if (cause == BH_LOST_COUNT) {
		put(ring, notification);
		return 1;
	}
	ring->lost[cause]++;
	bh_store_relaxed(&header_of(ring)->lost[cause], ring->lost[cause]);
	return 0;
}

static void wake_reader(struct bh_channel *channel)
{
	const struct bh_platform *platform = channel->platform;
	uint32_t *word = &channel->ring.reader->sleeping;

	bh_fence();
	/* To 0 first, so that one of us makes the call. */
	if (bh_load_relaxed(word) && bh_exchange(word, 0u))
		platform->wake(platform->context, word, 1, 1);
}

static int wants(const struct bh_channel *channel, uint32_t kind)
{
	return (bh_load_relaxed(&channel->ring.kinds) & bh_notification_bit(kind)) != 0;
}

void bh_notify(struct bh_channel *channel, const struct bh_notification *notification)
{
	struct bh_ring *ring = &channel->ring;
	unsigned long flags;
	int there;

	if (!wants(channel, notification->kind))
		return;
	flags = bh_lock_take_quiet(&ring->lock);
	there = put_or_lose(channel, ring, notification);
	publish(ring);
	bh_lock_drop_quiet(&ring->lock, flags);
	if (there)
		wake_reader(channel);
}

/*
 * Not 0: some of them are in the ring. Published together: a reader that polls for the next one
 * would take each line away in the middle of its writing.
 */
static int put_some(struct bh_channel *channel, const struct bh_notification *notifications,
		    size_t count)
{
	struct bh_ring *ring = &channel->ring;
	unsigned long flags;
	int there = 0;
	size_t i;

	flags = bh_lock_take_quiet(&ring->lock);
	for (i = 0; i < count; i++)
		if (wants(channel, notifications[i].kind))
			there |= put_or_lose(channel, ring, &notifications[i]);
	publish(ring);
	bh_lock_drop_quiet(&ring->lock, flags);
	return there;
}

void bh_notify_many(struct bh_channel *channel, const struct bh_notification *notifications,
		    size_t count)
{
	size_t done = 0, some;
	int there = 0;

	if (!bh_load_relaxed(&channel->ring.kinds))
		return;
	for (; done < count; done += some) {
		some = count - done < AT_ONCE ? count - done : AT_ONCE;
		there |= put_some(channel, notifications + done, some);
	}
	if (there)
		wake_reader(channel);
}

int bh_shim_wants_notification(const struct bh_shim *shim, uint32_t kind)
{
	uint32_t i;

	for (i = 0; i < shim->channel_count; i++)
		if (wants(shim->channels[i], kind))
			return 1;
	return 0;
}

void bh_shim_notify(const struct bh_shim *shim, const struct bh_notification *notification)
{
	uint32_t i;

	for (i = 0; i < shim->channel_count; i++)
		bh_notify(shim->channels[i], notification);
}

void bh_shim_notify_many(const struct bh_shim *shim, const struct bh_notification *notifications,
			 size_t count)
{
	uint32_t i;

	for (i = 0; i < shim->channel_count; i++)
		bh_notify_many(shim->channels[i], notifications, count);
}

void bh_ring_statistics(struct bh_channel *channel, struct bh_statistics *statistics)
{
	struct bh_ring *ring = &channel->ring;
	unsigned long flags;
	uint32_t i;

	if (!ring->region)
		return;
	flags = bh_lock_take_quiet(&ring->lock);
	look_at_reader(ring);
	statistics->notified = ring->written + lost_sum(ring);
	statistics->unread = ring->written - ring->accepted;
	for (i = 0; i < BH_LOST_COUNT; i++)
		statistics->lost[i] = ring->lost[i];
	bh_lock_drop_quiet(&ring->lock, flags);
}
