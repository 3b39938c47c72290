// SPDX-License-Identifier: GPL-2.0-only
/* The stack of channels: read by every call, replaced as a whole. It holds its channels. */
#include <linux/slab.h>
#include <linux/srcu.h>

#include "shim/module/session/session.h"

struct stack {
	struct bh_shim shim;
	struct rcu_head rcu;
	struct bh_mchannel *channel[BH_CHANNELS_MAX];
	u32 count;
};

DEFINE_STATIC_SRCU(stack_srcu);
static struct stack __rcu *present;
static struct stack empty; /* in force while no driver is there; never freed */

void bh_stack_init(void)
{
	bh_shim_init(&empty.shim, bh_kernel_platform());
	RCU_INIT_POINTER(present, &empty);
}

void bh_stack_exit(void)
{
	srcu_barrier(&stack_srcu);
}

struct bh_shim *bh_stack_enter(int *index) __acquires(&stack_srcu)
{
	*index = srcu_read_lock(&stack_srcu);
	return &srcu_dereference(present, &stack_srcu)->shim;
}

void bh_stack_leave(int index) __releases(&stack_srcu)
{
	srcu_read_unlock(&stack_srcu, index);
}

static void free_stack(struct rcu_head *rcu)
{
	struct stack *stack = container_of(rcu, struct stack, rcu);
	u32 i;

	for (i = 0; i < stack->count; i++)
		bh_mchannel_put(stack->channel[i]);
	kfree(stack);
}

static void replace(struct stack *next)
{
	struct stack *last;

	last = rcu_replace_pointer(present, next, lockdep_is_held(&bh_control_mutex));
	if (last != &empty)
		call_srcu(&stack_srcu, &last->rcu, free_stack);
}

int bh_stack_set(struct bh_mchannel *const *channels, u32 count)
{
	struct stack *next = kzalloc(sizeof(*next), GFP_KERNEL);
	u32 i;

	if (!next)
		return -ENOMEM;
	bh_shim_init(&next->shim, bh_kernel_platform());
	for (i = 0; i < count; i++) {
		if (!channels[i])
			continue;
		/* There is room: there are no more numbers than places. */
		bh_shim_add(&next->shim, channels[i]->core);
		kref_get(&channels[i]->ref);
		next->channel[next->count++] = channels[i];
	}
	replace(next);
	return 0;
}

void bh_stack_clear(void)
{
	replace(&empty);
	synchronize_srcu(&stack_srcu);
}
