// SPDX-License-Identifier: GPL-2.0-only
/* One defect for each checker of the debug kernel. None does harm there; load the module nowhere
 * else. */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(lock);
static int __rcu *protected;
static int table[4];
/* Read at run time, so that the compiler neither warns nor optimises the defect away. */
static volatile int beyond = ARRAY_SIZE(table);

static noinline void planted_use_after_free(void)
{
	volatile char *memory = kmalloc(64, GFP_KERNEL);

	if (!memory)
		return;
	kfree((void *)memory);
	(void)memory[8];
}

/* Channels are memory of this kind. */
static noinline void planted_vmalloc_overrun(void)
{
	volatile char *memory = vmalloc(100);

	if (!memory)
		return;
	(void)memory[100 + beyond];
	vfree((void *)memory);
}

static noinline void planted_shift(void)
{
	WRITE_ONCE(table[0], 1 << (beyond * 16));
}

static noinline void planted_sleep_in_atomic(void)
{
	spin_lock(&lock);
	kfree(kmalloc(64, GFP_KERNEL));
	spin_unlock(&lock);
}

static noinline void planted_rcu_unprotected(void)
{
	(void)rcu_dereference(protected);
}

static noinline void planted_lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

/* Several, because a stale word on some stack may still point to the last one. */
static noinline void planted_leak(void)
{
	void *volatile memory;
	int i;

	for (i = 0; i < 16; i++)
		memory = kmalloc(64, GFP_KERNEL);
	(void)memory;
}

static int __init planted_start(void)
{
	planted_shift();
	planted_sleep_in_atomic();
	/* Lockdep ends with its first report about locks, or with one of KASAN's. */
	planted_rcu_unprotected();
	planted_lock_order();
	planted_use_after_free();
	planted_vmalloc_overrun();
	planted_leak();
	return 0;
}

static void __exit planted_stop(void)
{
}

module_init(planted_start);
module_exit(planted_stop);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Defects that a debug kernel has to report");
