/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The layers of a host's sandbox, and the levels that they add up to. A host enters the layers,
 * tests each from inside, and reports those that held before it loads its driver; its level is the
 * highest of which it has all layers.
 */
#ifndef BULKHEAD_IPC_ABI_SANDBOX_H_
#define BULKHEAD_IPC_ABI_SANDBOX_H_

#include "ipc/abi/types.h"

/* clang-format off */
/* In this order. Rows as in policy.h. */
#define BH_FOR_EACH_SANDBOX_LEVEL(X) \
	X(0, NONE, none, "less than basic") \
	X(1, BASIC, basic, "what needs no rights of root and no new kernel") \
	X(2, CONFINED, confined, "and no file but its own, as a user of its own") \
	X(3, FULL, full, "and a system of its own: namespaces, an empty root, a control group")

/* X(bit, NAME, name, level from which on it is needed, doc) */
#define BH_FOR_EACH_SANDBOX_LAYER(X) \
	X(0, PRIVILEGES, privileges, BASIC, "no capabilities and no way to new ones, not traceable, no core dumps") \
	X(1, LIMITS, limits, BASIC, "limits of open files, and of threads for a user of its own") \
	X(2, SYSTEM_CALLS, system_calls, BASIC, "a list of the system calls that it may make") \
	X(3, FILES, files, CONFINED, "Landlock: a list of the files that it may open by name") \
	X(4, OWN_USER, own_user, CONFINED, "a user and group of its own that owns nothing") \
	X(5, USERS, users, FULL, "a user namespace that has its own id only") \
	X(6, MOUNTS, mounts, FULL, "a mount namespace with an empty root, and what is granted in it") \
	X(7, PROCESSES, processes, FULL, "a process id namespace that has this process only") \
	X(8, NETWORK, network, FULL, "a network namespace without interfaces") \
	X(9, IPC, ipc, FULL, "a namespace of its own for System V objects and message queues") \
	X(10, NAMES, names, FULL, "a namespace of its own for the machine's name") \
	X(11, GROUPS, groups, FULL, "a namespace that hides where its control group is") \
	X(12, RESOURCES, resources, FULL, "a control group that limits its memory, processors and threads")
/* clang-format on */

#define BH_SANDBOX_LEVEL_ENUM_ROW(id, NAME, name, doc) BH_SANDBOX_##NAME = (id),
enum bh_sandbox_level {
	BH_FOR_EACH_SANDBOX_LEVEL(BH_SANDBOX_LEVEL_ENUM_ROW)
};

#define BH_SANDBOX_LAYER_ENUM_ROW(bit, NAME, name, level, doc) BH_LAYER_##NAME = 1u << (bit),
enum bh_sandbox_layer {
	BH_FOR_EACH_SANDBOX_LAYER(BH_SANDBOX_LAYER_ENUM_ROW)
};

#define BH_SANDBOX_LAYER_OR(bit, NAME, name, level, doc) | (1u << (bit))
#define BH_LAYERS_ALL (0u BH_FOR_EACH_SANDBOX_LAYER(BH_SANDBOX_LAYER_OR))

static inline int bh_sandbox_level_known(uint32_t level)
{
	return level < 32 && ((0u BH_FOR_EACH_SANDBOX_LEVEL(BH_ROW_BIT)) >> level & 1);
}

/* The layers without which a host is below `level`. */
static inline uint32_t bh_sandbox_layers_of(uint32_t level)
{
	uint32_t layers = 0;
#define BH_SANDBOX_LAYER_UP_TO(bit, NAME, name, from, doc) \
	if (BH_SANDBOX_##from <= level) \
		layers |= 1u << (bit);
	BH_FOR_EACH_SANDBOX_LAYER(BH_SANDBOX_LAYER_UP_TO)
#undef BH_SANDBOX_LAYER_UP_TO
	return layers;
}

static inline enum bh_sandbox_level bh_sandbox_level_of(uint32_t layers)
{
	uint32_t level = BH_SANDBOX_FULL;

	while (level != BH_SANDBOX_NONE && (bh_sandbox_layers_of(level) & ~layers) != 0)
		--level;
	return (enum bh_sandbox_level)level;
}

#endif /* BULKHEAD_IPC_ABI_SANDBOX_H_ */
