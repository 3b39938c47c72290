/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a supervisor says about a generation that begins: one struct through control messages, the
 * module's ioctl and the core.
 */
#ifndef BULKHEAD_IPC_ABI_GENERATION_H_
#define BULKHEAD_IPC_ABI_GENERATION_H_

#include "ipc/abi/sets.h"
#include "ipc/abi/types.h"

struct bh_generation_spec {
	uint32_t generation; /* not 0, greater than any before on its channel */
	uint32_t reserved;
	struct bh_callback_set callbacks;            /* others pass without a call */
	struct bh_callback_set descriptor_callbacks; /* calls that carry the file to the host */
	struct bh_callback_set notifications;        /* kinds that the driver wants */
	uint64_t content_version; /* of driver or content: verdicts of other versions are not taken
				   */
};
BH_ASSERT_SIZE(struct bh_generation_spec, 16 + 3 * sizeof(struct bh_callback_set));
BH_ASSERT_TRIVIAL(struct bh_generation_spec);

#endif /* BULKHEAD_IPC_ABI_GENERATION_H_ */
