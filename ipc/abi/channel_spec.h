/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a supervisor says about a channel when it is made: one struct through the keeper's orders,
 * the module's ioctl and the core. A boolean of a channel is a row here and its use.
 */
#ifndef BULKHEAD_IPC_ABI_CHANNEL_SPEC_H_
#define BULKHEAD_IPC_ABI_CHANNEL_SPEC_H_

#include "ipc/abi/channel.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/types.h"

/* X(id, NAME, name, on, doc): a bit of `flags`, its key in a driver's manifest, and whether it is
 * set where the manifest says nothing. */
/* clang-format off */
#define BH_FOR_EACH_CHANNEL_FLAG(X) \
	X(0, PATHS, paths, 1, "the driver looks at the names of files")
/* clang-format on */

#define BH_CHANNEL_FLAG_ENUM_ROW(id, NAME, name, on, doc) BH_CHANNEL_##NAME = 1u << (id),
#define BH_CHANNEL_FLAG_ON_ROW(id, NAME, name, on, doc) | (uint32_t)(on) << (id)
enum bh_channel_flag {
	BH_FOR_EACH_CHANNEL_FLAG(BH_CHANNEL_FLAG_ENUM_ROW)
};
enum {
	BH_CHANNEL_FLAGS = 0u BH_FOR_EACH_CHANNEL_FLAG(BH_ROW_BIT),
	BH_CHANNEL_FLAGS_DEFAULT = 0u BH_FOR_EACH_CHANNEL_FLAG(BH_CHANNEL_FLAG_ON_ROW)
};

struct bh_channel_spec {
	uint32_t altitude; /* higher is asked first */
	uint32_t flags;    /* bits of enum bh_channel_flag */
	struct bh_geometry geometry;
	uint32_t spin_ns;        /* ceiling of the adaptive spin budget; 0 never spins */
	uint32_t cache_entries;  /* verdict cache, a power of two; 0 is off */
	uint32_t notify_entries; /* of the notification ring; 0: there is none */
	struct bh_policy policy;
};
BH_ASSERT_SIZE(struct bh_channel_spec, 20 + sizeof(struct bh_geometry) + sizeof(struct bh_policy));
BH_ASSERT_TRIVIAL(struct bh_channel_spec);

static inline void bh_channel_spec_default(struct bh_channel_spec *spec)
{
	spec->altitude = 1000;
	spec->flags = BH_CHANNEL_FLAGS_DEFAULT;
	spec->geometry.lanes = 2;
	spec->geometry.slots_per_lane = 16;
	spec->geometry.call_chunks = 64;
	spec->geometry.reply_chunks = 0;
	spec->spin_ns = 20000;
	spec->cache_entries = 4096;
	spec->notify_entries = 0;
	bh_policy_default(&spec->policy);
}

static inline int bh_channel_spec_valid(const struct bh_channel_spec *spec)
{
	return !(spec->flags & ~(uint32_t)BH_CHANNEL_FLAGS) && bh_geometry_valid(&spec->geometry) &&
	       bh_notification_entries_valid(spec->notify_entries) &&
	       !(spec->cache_entries & (spec->cache_entries - 1)) &&
	       bh_policy_check(&spec->policy) == 0;
}

#endif /* BULKHEAD_IPC_ABI_CHANNEL_SPEC_H_ */
