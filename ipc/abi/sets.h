/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Classes, and sets of callback ids or of notification kinds: a word for each class, a bit for each
 * of its 64 ids. A set travels as it is, and a reader of one id looks at one word.
 */
#ifndef BULKHEAD_IPC_ABI_SETS_H_
#define BULKHEAD_IPC_ABI_SETS_H_

#include "ipc/abi/types.h"

#define BH_CLASS_ROW(id, NAME, name, doc) BH_CLASS_##NAME = (id),
enum bh_class {
#include "ipc/abi/classes.def"
};
#define BH_CLASS_ROW(id, NAME, name, doc) +1
enum {
	BH_CLASS_COUNT = 0
#include "ipc/abi/classes.def"
};

#define BH_IDS_PER_CLASS 64u
/* An id's high byte is its class, its low byte counts from 1. */
#define BH_ID(klass, index) ((klass) << 8 | (index))

struct bh_callback_set {
	uint64_t bits[BH_CLASS_COUNT];
};
BH_ASSERT_SIZE(struct bh_callback_set, 8 * BH_CLASS_COUNT);
BH_ASSERT_TRIVIAL(struct bh_callback_set);

/* Class of a callback or of a notification kind; BH_CLASS_NONE when there is none of that number.
 */
static inline uint32_t bh_callback_class(uint32_t id)
{
	uint32_t klass = id >> 8;

	return klass < BH_CLASS_COUNT ? klass : (uint32_t)BH_CLASS_NONE;
}

/* Bit of an id in its class's word; 0 for what can be no id. */
static inline uint64_t bh_set_bit(uint32_t id)
{
	uint32_t index = (id & 0xff) - 1;

	return bh_callback_class(id) != BH_CLASS_NONE && index < BH_IDS_PER_CLASS ? 1ull << index
										  : 0;
}

static inline int bh_set_has(const struct bh_callback_set *set, uint32_t id)
{
	return (set->bits[bh_callback_class(id)] & bh_set_bit(id)) != 0;
}

static inline void bh_set_add(struct bh_callback_set *set, uint32_t id)
{
	set->bits[bh_callback_class(id)] |= bh_set_bit(id);
}

static inline void bh_set_join(struct bh_callback_set *set, const struct bh_callback_set *other)
{
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		set->bits[klass] |= other->bits[klass];
}

/* Keeps what is in both. */
static inline void bh_set_and(struct bh_callback_set *set, const struct bh_callback_set *other)
{
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		set->bits[klass] &= other->bits[klass];
}

static inline int bh_set_empty(const struct bh_callback_set *set)
{
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		if (set->bits[klass])
			return 0;
	return 1;
}

/* Whether all of `set` is in `other`. */
static inline int bh_set_within(const struct bh_callback_set *set,
				const struct bh_callback_set *other)
{
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		if (set->bits[klass] & ~other->bits[klass])
			return 0;
	return 1;
}

/* Whatever id there is or will be. */
static inline struct bh_callback_set bh_set_everything(void)
{
	struct bh_callback_set set;
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		set.bits[klass] = klass ? ~0ull : 0;
	return set;
}

static inline struct bh_callback_set bh_set_none(void)
{
	struct bh_callback_set set;
	uint32_t klass;

	for (klass = 0; klass < BH_CLASS_COUNT; klass++)
		set.bits[klass] = 0;
	return set;
}

static inline struct bh_callback_set bh_set_of(uint32_t id)
{
	struct bh_callback_set set = bh_set_none();

	bh_set_add(&set, id);
	return set;
}

#endif /* BULKHEAD_IPC_ABI_SETS_H_ */
