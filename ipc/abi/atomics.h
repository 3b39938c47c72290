/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The few atomic operations that shared memory needs, one spelling for the kernel, C11 and C++.
 * They are the compiler's builtins, which both compilers implement inline for words of up to eight
 * bytes and need no library for.
 */
#ifndef BULKHEAD_IPC_ABI_ATOMICS_H_
#define BULKHEAD_IPC_ABI_ATOMICS_H_

#include "ipc/abi/types.h"

/* In one total order with the read-modify-writes below: the look of "announce, then look". */
#define bh_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define bh_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define bh_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define bh_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define bh_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define bh_add_fetch(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
#define bh_sub_fetch(p, v) __atomic_sub_fetch((p), (v), __ATOMIC_SEQ_CST)
#define bh_fetch_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define bh_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define bh_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
/* Strong; *expected_p gets what was found. */
#define bh_compare_exchange(p, expected_p, v) \
	__atomic_compare_exchange_n((p), (expected_p), (v), 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)

/*
 * The fence of every "announce, fence, look again". ThreadSanitizer does not model fences, but the
 * accesses around this one are atomic, so it has nothing to miss.
 *
 * SUBTLE: both sides store relaxed to a word of their own, fence, and load the other's relaxed.
 * They race, and either may read what was there before, but not both: the one of them whose fence
 * comes second sees the other's store. A side that looks in vain is seen by the other.
 * tests/model/waiting.pml
 */
#define bh_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
/* Loads before it stay before what comes after it: the end of a read under a sequence count. */
#define bh_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)

static inline void bh_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/*
 * Between two looks at a word that another CPU will change within a microsecond: 5 ns where
 * bh_cpu_relax() takes up to 25, which is how much later the change would be seen. Like that it
 * lets no load run ahead, which would take the line from its writer half-way through.
 */
static inline void bh_cpu_pace(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ volatile("lfence" ::: "memory");
#else
	bh_cpu_relax();
#endif
}

#endif /* BULKHEAD_IPC_ABI_ATOMICS_H_ */
