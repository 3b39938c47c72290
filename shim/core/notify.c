// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The writing side of the notification ring. See ipc/abi/notification.h.
 *
 * One short lock for each ring, with interrupts off in the kernel: a source may be an interrupt.
 * The work under the lock is bounded: two loads of the host's memory and one copied entry for each
 * of at most AT_ONCE notifications, and no wake. The alternative, producers that each reserve a
 * place and fill it unlocked, would delay the reader, or other producers at the ring's end,
 * whenever a producer is interrupted in between, and the sum of delivered and lost notifications
 * would not be exact at all times. The short lock is simpler, and its line is the only one that
 * producers share.
 *
 * A sleeping reader is woken after the lock is dropped. The reader announces, fences, and checks
 * the next entry; the producer publishes, fences, and checks for the announcement. At least one of
 * the two sees the other.
 *
 * SUBTLE: `kinds` and `serving` are read without the lock: a notification during their change is
 * delivered or not, or lost for the earlier cause, as if it had happened a moment earlier. The
 * header's counts are stored relaxed: the publication after them orders `written` and `accepted`
 * for a reader of the entry, and the others are statistics only.
 */
#include "shim/core/internal.h"

/* Notifications that are put into the ring while the lock is held once. */
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
 * The header was written by the dead shim: no host can write it. The shim may have died between the
 * count of an entry and its publication, or before it counted a loss: such notifications are not
 * counted.
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
	if (!config->spec.notify_entries)
		return;
	ring->region = config->notify_region;
	ring->reader = (void *)(channel->reply_region + BH_NOTIFICATION_READER_OFFSET);
	ring->entries = config->spec.notify_entries;
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

void bh_ring_set_kinds(struct bh_channel *channel, const struct bh_callback_set *kinds)
{
	if (!channel->ring.region)
		return;
	bh_set_store(&channel->ring.kinds, kinds);
	bh_store_relaxed(&channel->ring.any, bh_set_empty(kinds) ? 0u : 1u);
}

/*
 * Accepts the position that the host claims to have read up to, if it is possible: not beyond the
 * published entries. Acquire: the host's copies come before its claim, so the entries are not
 * overwritten while it copies. Not 0: the position is impossible.
 */
static int accept_position(struct bh_ring *ring)
{
	uint64_t claimed = bh_load_acquire(&ring->reader->read);

	if (claimed - ring->accepted > ring->published - ring->accepted)
		return 1;
	ring->accepted = claimed;
	bh_store_relaxed(&header_of(ring)->accepted, claimed);
	return 0;
}

/* An enum bh_notification_loss, or BH_LOST_COUNT: there is room. */
static uint32_t room(const struct bh_channel *channel, struct bh_ring *ring)
{
	int impossible;

	if (ring->written - ring->accepted < ring->entries)
		return BH_LOST_COUNT;
	impossible = accept_position(ring);
	if (ring->written - ring->accepted < ring->entries)
		return BH_LOST_COUNT;
	if (!bh_load_relaxed(&channel->serving))
		return BH_LOST_ABSENT;
	return impossible ? BH_LOST_CURSOR : BH_LOST_FULL;
}

/* Each of two texts gets half of the room, or as much as the other leaves. */
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

	/* From the last line to the first: the reader polls line 0, and would fetch it twice. */
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

/* Publishes the entries that were put in since the last call. */
static void publish(struct bh_ring *ring)
{
	while (ring->published != ring->written) {
		struct bh_notification_entry *entry = entry_at(ring, ring->published);

		ring->published++;
		/* In this order: a host may die right after it has read the entry, and the next one
		 * accepts no position beyond this count. */
		bh_store_relaxed(&header_of(ring)->written, ring->published);
		bh_store_release(&entry->published, ring->published);
	}
}

/* Not 0: the notification is in the ring. */
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
	/* To 0 first, so that only one producer makes the system call. */
	if (bh_load_relaxed(word) && bh_exchange(word, 0u))
		platform->wake(platform->context, word, 1, 1);
}

static int wants(const struct bh_channel *channel, uint32_t kind)
{
	return bh_set_has_bit(&channel->ring.kinds, kind, bh_set_bit(kind));
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
 * Not 0: at least one of them is in the ring. They are published together: a reader that polls for
 * the next entry would take each line away while it is being written.
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

	if (!bh_load_relaxed(&channel->ring.any))
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
	accept_position(ring);
	statistics->notified = ring->written + lost_sum(ring);
	statistics->unread = ring->written - ring->accepted;
	for (i = 0; i < BH_LOST_COUNT; i++)
		statistics->lost[i] = ring->lost[i];
	bh_lock_drop_quiet(&ring->lock, flags);
}
