// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Verdicts that their driver declared valid until the object, the content or the driver changes.
 *
 * Sets of four entries, each set under a sequence count, which is odd during a write. No thread
 * waits: a reader that meets a writer reports a miss, a writer that meets another drops its
 * verdict.
 */
#include "shim/core/internal.h"

#define WAYS 4u
#define ERROR_SHIFT 8
#define CALLBACK_SHIFT 16
#define GENERATION_SHIFT 32
#define CALLBACK_MASK 0xffff0000ull

struct entry {
	uint64_t device;
	uint64_t inode;
	uint64_t change;
	uint64_t version;
	uint64_t tag; /* from above: generation 32, callback 16, errno 8, enum bh_verdict 8; 0:
			 empty */
};

struct bh_cache_set {
	uint32_t sequence;
	uint32_t hand; /* the next entry to be replaced */
	struct entry entry[WAYS];
} BH_LINE_ALIGNED;

static uint32_t set_count(uint32_t entries)
{
	return entries > WAYS ? entries / WAYS : 1;
}

size_t bh_cache_bytes(uint32_t entries)
{
	return entries ? set_count(entries) * sizeof(struct bh_cache_set) : 0;
}

void bh_cache_init(struct bh_cache *cache, void *memory, uint32_t entries)
{
	cache->sets = entries ? memory : NULL;
	cache->set_mask = entries ? set_count(entries) - 1 : 0;
}

/* The object that the verdict is about; -1 when the arguments do not identify one. */
static int key_of(const struct bh_call *call, struct entry *key)
{
	struct bh_file_args args;

	if (!(bh_callback_flags(call->callback) & BH_CALLBACK_ABOUT_OBJECT) ||
	    call->args_bytes != sizeof(args))
		return -1;
	bh_copy(&args, call->args, sizeof(args));
	if (!args.change)
		return -1;
	key->device = args.device;
	key->inode = args.inode;
	key->change = args.change;
	key->tag = (uint64_t)call->callback << CALLBACK_SHIFT;
	return 0;
}

/* By object and callback, not by change: a file that changes replaces its own entry. */
static struct bh_cache_set *set_of(const struct bh_cache *cache, const struct entry *key)
{
	uint64_t hash = (key->inode ^ (key->tag << 16) ^ (key->device * 0xff51afd7ed558ccdull)) *
			0x9e3779b97f4a7c15ull;

	return &cache->sets[(uint32_t)(hash >> 32) & cache->set_mask];
}

/*
 * SUBTLE: a writer may be changing this entry. Each word is loaded by itself, so two words may
 * belong to different entries; the sequence count, read before and after, discards such a find.
 */
static int same_object(const struct entry *entry, const struct entry *key)
{
	return (bh_load_relaxed(&entry->tag) & CALLBACK_MASK) == key->tag &&
	       bh_load_relaxed(&entry->inode) == key->inode &&
	       bh_load_relaxed(&entry->device) == key->device;
}

uint32_t bh_cache_find(const struct bh_cache *cache, const struct bh_call *call, uint64_t version,
		       int any_version, uint32_t *error)
{
	const struct bh_cache_set *set;
	struct entry key;
	uint32_t way, sequence;
	uint64_t tag = 0;

	if (!cache->sets || key_of(call, &key))
		return 0;
	set = set_of(cache, &key);
	sequence = bh_load_acquire(&set->sequence);
	if (sequence & 1)
		return 0;
	for (way = 0; way < WAYS; way++) {
		const struct entry *entry = &set->entry[way];

		if (same_object(entry, &key) && bh_load_relaxed(&entry->change) == key.change &&
		    (any_version || bh_load_relaxed(&entry->version) == version)) {
			tag = bh_load_relaxed(&entry->tag);
			break;
		}
	}
	/* The loads above come before this one: the words read belong to one entry. */
	bh_fence_acquire();
	if (bh_load_relaxed(&set->sequence) != sequence)
		return 0;
	if (tag >> GENERATION_SHIFT <= bh_load_relaxed(&cache->distrusted))
		return 0;
	*error = (uint32_t)(tag >> ERROR_SHIFT) & 0xff;
	return (uint32_t)tag & 0xff;
}

void bh_cache_store(struct bh_cache *cache, const struct bh_call *call, uint64_t version,
		    uint32_t generation, struct bh_verdict_reply verdict)
{
	struct bh_cache_set *set;
	struct entry key, *entry = NULL;
	uint32_t way, sequence;

	if (!cache->sets || key_of(call, &key))
		return;
	set = set_of(cache, &key);
	sequence = bh_load_relaxed(&set->sequence);
	if ((sequence & 1) || !bh_compare_exchange(&set->sequence, &sequence, sequence + 1))
		return;
	for (way = 0; way < WAYS && !entry; way++)
		if (same_object(&set->entry[way], &key))
			entry = &set->entry[way];
	for (way = 0; way < WAYS && !entry; way++)
		if (!set->entry[way].tag)
			entry = &set->entry[way];
	if (!entry)
		entry = &set->entry[set->hand++ % WAYS];
	/* Readers that see any of the stores below must see the odd count. */
	bh_fence();
	bh_store_relaxed(&entry->device, key.device);
	bh_store_relaxed(&entry->inode, key.inode);
	bh_store_relaxed(&entry->change, key.change);
	bh_store_relaxed(&entry->version, version);
	bh_store_relaxed(&entry->tag, (uint64_t)generation << GENERATION_SHIFT | key.tag |
					      (uint64_t)verdict.error << ERROR_SHIFT |
					      verdict.verdict);
	bh_store_release(&set->sequence, sequence + 2);
}
