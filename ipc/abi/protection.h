/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a guard or a driver is worth right now, from the least to the most. Rows as in policy.h.
 */
#ifndef BULKHEAD_IPC_ABI_PROTECTION_H_
#define BULKHEAD_IPC_ABI_PROTECTION_H_

#include "ipc/abi/types.h"

/* clang-format off */
#define BH_FOR_EACH_PROTECTION(X) \
	X(0, NONE, none, "accesses pass, and the driver is not asked") \
	X(1, DEGRADED, degraded, "some accesses may pass unasked, or though they are denied (audit), or wait; the reasons say which") \
	X(2, FULL, full, "each access is decided by the drivers")
/* clang-format on */

#define BH_PROTECTION_ENUM_ROW(id, NAME, name, doc) BH_PROTECTION_##NAME = (id),
enum bh_protection {
	BH_FOR_EACH_PROTECTION(BH_PROTECTION_ENUM_ROW)
};

static inline int bh_protection_known(uint32_t protection)
{
	return protection < 32 && ((0u BH_FOR_EACH_PROTECTION(BH_ROW_BIT)) >> protection & 1);
}

#endif /* BULKHEAD_IPC_ABI_PROTECTION_H_ */
