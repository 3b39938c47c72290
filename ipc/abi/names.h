/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The names of what policy.h, end.h and events.h list, as the command line, the status, the log and
 * JSON have them. For user mode: the kernel module logs none of them.
 */
#ifndef BULKHEAD_IPC_ABI_NAMES_H_
#define BULKHEAD_IPC_ABI_NAMES_H_

#include "ipc/abi/end.h"
#include "ipc/abi/events.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"

#define BH_NAME_ROW(id, NAME, name, doc) \
	case (id): \
		return #name;
/* "unknown" for a value without a row. */
#define BH_DEFINE_NAMES(function, rows) \
	static inline const char *function(uint32_t value) \
	{ \
		switch (value) { \
			rows(BH_NAME_ROW) default : return "unknown"; \
		} \
	}

BH_DEFINE_NAMES(bh_reason_name, BH_FOR_EACH_REASON)
BH_DEFINE_NAMES(bh_action_name, BH_FOR_EACH_ACTION)
BH_DEFINE_NAMES(bh_end_name, BH_FOR_EACH_END)
BH_DEFINE_NAMES(bh_event_name, BH_FOR_EACH_EVENT)
BH_DEFINE_NAMES(bh_violation_name, BH_FOR_EACH_VIOLATION)
BH_DEFINE_NAMES(bh_start_name, BH_FOR_EACH_START)
BH_DEFINE_NAMES(bh_loss_name, BH_FOR_EACH_LOSS)

#endif /* BULKHEAD_IPC_ABI_NAMES_H_ */
