/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a channel counts: the rows of statistics.def as one struct of 64-bit words. It travels as it
 * is, or as a list of words.
 */
#ifndef BULKHEAD_IPC_ABI_STATISTICS_H_
#define BULKHEAD_IPC_ABI_STATISTICS_H_

#include "ipc/abi/latency.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/types.h"

struct bh_statistics {
#define BH_STATISTIC(NAME, name, group, kind, doc) uint64_t name;
#define BH_STATISTIC_BY(NAME, name, count, part, group, kind, doc) uint64_t name[count];
#include "ipc/abi/statistics.def"
};
BH_ASSERT_TRIVIAL(struct bh_statistics);

#define BH_STATISTICS_WORDS (sizeof(struct bh_statistics) / sizeof(uint64_t))

/* Index of a counter among the words; of an array, of its first part. */
enum bh_counter {
#define BH_STATISTIC(NAME, name, group, kind, doc) \
	BH_COUNT_##NAME = offsetof(struct bh_statistics, name) / sizeof(uint64_t),
#define BH_STATISTIC_BY(NAME, name, count, part, group, kind, doc) \
	BH_COUNT_##NAME = offsetof(struct bh_statistics, name) / sizeof(uint64_t),
#include "ipc/abi/statistics.def"
};

#endif /* BULKHEAD_IPC_ABI_STATISTICS_H_ */
