/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The lock of the rare paths: the begin and end of generations, the queue of suspects. It is held
 * for a bounded number of loads and stores, never across a call into the platform.
 */
#ifndef BULKHEAD_SHIM_CORE_BH_LOCK_H_
#define BULKHEAD_SHIM_CORE_BH_LOCK_H_

#include "ipc/abi/atomics.h"

#ifdef __KERNEL__
#include <linux/spinlock.h>

struct bh_lock {
	spinlock_t spin;
};

static inline void bh_lock_init(struct bh_lock *lock)
{
	spin_lock_init(&lock->spin);
}

static inline void bh_lock_take(struct bh_lock *lock)
{
	spin_lock(&lock->spin);
}

static inline void bh_lock_drop(struct bh_lock *lock)
{
	spin_unlock(&lock->spin);
}

/* For locks that interrupt handlers take too. */
static inline unsigned long bh_lock_take_quiet(struct bh_lock *lock)
{
	unsigned long flags;

	spin_lock_irqsave(&lock->spin, flags);
	return flags;
}

static inline void bh_lock_drop_quiet(struct bh_lock *lock, unsigned long flags)
{
	spin_unlock_irqrestore(&lock->spin, flags);
}
#else
struct bh_lock {
	uint32_t taken;
};

static inline void bh_lock_init(struct bh_lock *lock)
{
	lock->taken = 0;
}

/* SUBTLE: the relaxed load only waits for a free moment; the exchange takes the lock. */
static inline void bh_lock_take(struct bh_lock *lock)
{
	while (bh_exchange(&lock->taken, 1u))
		while (bh_load_relaxed(&lock->taken))
			bh_cpu_relax();
}

static inline void bh_lock_drop(struct bh_lock *lock)
{
	bh_store_release(&lock->taken, 0u);
}

static inline unsigned long bh_lock_take_quiet(struct bh_lock *lock)
{
	bh_lock_take(lock);
	return 0;
}

static inline void bh_lock_drop_quiet(struct bh_lock *lock, unsigned long flags)
{
	(void)flags;
	bh_lock_drop(lock);
}
#endif

#endif /* BULKHEAD_SHIM_CORE_BH_LOCK_H_ */
