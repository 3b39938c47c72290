/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the core takes from the world that it is compiled in: three functions on memory, which a
 * compiler may emit calls to in any case, and a short lock. Everything else comes in at run time
 * through struct bh_platform.
 */
#ifndef BULKHEAD_SHIM_CORE_BH_PLATFORM_H_
#define BULKHEAD_SHIM_CORE_BH_PLATFORM_H_

#include "ipc/abi/atomics.h"
#include "ipc/abi/types.h"

#ifdef __KERNEL__
#include <linux/string.h>
#define bh_copy(to, from, bytes) memcpy((to), (from), (bytes))
#define bh_zero(to, bytes) memset((to), 0, (bytes))
#else
#define bh_copy(to, from, bytes) __builtin_memcpy((to), (from), (bytes))
#define bh_zero(to, bytes) __builtin_memset((to), 0, (bytes))
#endif

#define BH_LINE_ALIGNED __attribute__((aligned(BH_CACHE_LINE)))

static inline uint64_t bh_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#endif /* BULKHEAD_SHIM_CORE_BH_PLATFORM_H_ */
