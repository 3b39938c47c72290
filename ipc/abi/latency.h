/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Times of calls as a histogram: part i counts those below bh_latency_bound_ns(i) that no part
 * before it counts; the last part counts all others.
 */
#ifndef BULKHEAD_IPC_ABI_LATENCY_H_
#define BULKHEAD_IPC_ABI_LATENCY_H_

#include "ipc/abi/types.h"

#define BH_LATENCY_SHIFT 10 /* all below 1024 ns are one part */
#define BH_LATENCY_COUNT 26u

/* Not included; of the last part ~0. */
static inline uint64_t bh_latency_bound_ns(uint32_t part)
{
	return part + 1 < BH_LATENCY_COUNT ? 1ull << (BH_LATENCY_SHIFT + part) : ~0ull;
}

static inline uint32_t bh_latency_part(uint64_t ns)
{
	uint64_t units = ns >> BH_LATENCY_SHIFT;
	uint32_t part = units ? 64u - (uint32_t)__builtin_clzll(units) : 0u;

	return part < BH_LATENCY_COUNT ? part : BH_LATENCY_COUNT - 1;
}

#endif /* BULKHEAD_IPC_ABI_LATENCY_H_ */
