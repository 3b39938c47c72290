/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the core needs at compile time from its environment: three functions on memory, which a
 * compiler may call in any case, and a short lock. Everything else comes at run time through struct
 * bh_platform.
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

#define bh_unlikely(condition) __builtin_expect(!!(condition), 0)
/* Rare code: kept out of the path of a call that a host answers. */
#define BH_COLD __attribute__((__cold__, __noinline__))
#define bh_fallthrough __attribute__((__fallthrough__))

#define BH_LINE_ALIGNED __attribute__((aligned(BH_CACHE_LINE)))

/*
 * Copies `bytes`, whole words, each with one load and one store: a wider load of words that were
 * just stored one by one would stall until they have left the store buffer.
 *
 * SUBTLE: one of the two ends may be memory that a host reads or writes at the same time. Each word
 * is old or new as a whole; the caller validates the words together.
 */
typedef uint64_t __attribute__((may_alias)) bh_word;
static inline void bh_copy_words(void *to, const void *from, size_t bytes)
{
	const bh_word *in = (const bh_word *)from;
	bh_word *out = (bh_word *)to;
	size_t i;

#pragma GCC unroll 8
	for (i = 0; i < bytes / sizeof(bh_word); i++)
		bh_store_relaxed(out + i, bh_load_relaxed(in + i));
}

static inline uint64_t bh_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint32_t bh_min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

#endif /* BULKHEAD_SHIM_CORE_BH_PLATFORM_H_ */
