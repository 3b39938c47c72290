/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The names of what policy.h, denial.h, end.h, events.h, protection.h and sandbox.h list, as the
 * command line, the status, the log and JSON have them. For user mode: the kernel module logs none
 * of them.
 */
#ifndef BULKHEAD_IPC_ABI_NAMES_H_
#define BULKHEAD_IPC_ABI_NAMES_H_

#include "ipc/abi/callbacks.h"
#include "ipc/abi/denial.h"
#include "ipc/abi/end.h"
#include "ipc/abi/events.h"
#include "ipc/abi/latency.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/protection.h"
#include "ipc/abi/sandbox.h"

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
BH_DEFINE_NAMES(bh_mode_name, BH_FOR_EACH_MODE)
BH_DEFINE_NAMES(bh_denied_by_name, BH_FOR_EACH_DENIAL)
BH_DEFINE_NAMES(bh_end_name, BH_FOR_EACH_END)
BH_DEFINE_NAMES(bh_event_name, BH_FOR_EACH_EVENT)
BH_DEFINE_NAMES(bh_violation_name, BH_FOR_EACH_VIOLATION)
BH_DEFINE_NAMES(bh_start_name, BH_FOR_EACH_START)
BH_DEFINE_NAMES(bh_protection_name, BH_FOR_EACH_PROTECTION)
BH_DEFINE_NAMES(bh_sandbox_level_name, BH_FOR_EACH_SANDBOX_LEVEL)
BH_DEFINE_NAMES(bh_loss_name, BH_FOR_EACH_LOSS)

/* The bound, rounded. */
static inline const char *bh_latency_name(uint32_t part)
{
	static const char *const names[BH_LATENCY_COUNT] = {
		"1us",   "2us",   "4us",  "8us",  "16us", "33us", "66us", "131us", "262us",
		"524us", "1ms",   "2ms",  "4ms",  "8ms",  "17ms", "34ms", "67ms",  "134ms",
		"268ms", "537ms", "1.1s", "2.1s", "4.3s", "8.6s", "17s",  "more",
	};

	return part < BH_LATENCY_COUNT ? names[part] : "unknown";
}

/* Of one bit. */
static inline const char *bh_sandbox_layer_name(uint32_t layer)
{
	switch (layer) {
#define BH_LAYER_NAME_CASE(bit, NAME, name, level, doc) \
	case 1u << (bit): \
		return #name;
		BH_FOR_EACH_SANDBOX_LAYER(BH_LAYER_NAME_CASE)
#undef BH_LAYER_NAME_CASE
	default:
		return "unknown";
	}
}

#define BH_NAME_CASE(value, name) \
	case value: \
		return #name;

static inline const char *bh_class_name(uint32_t klass)
{
	switch (klass) {
#define BH_CLASS_ROW(id, NAME, name, doc) BH_NAME_CASE(BH_CLASS_##NAME, name)
#include "ipc/abi/classes.def"
	default:
		return "unknown";
	}
}

static inline const char *bh_callback_name(uint32_t callback)
{
	switch (callback) {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
	BH_NAME_CASE(BH_CALLBACK_##NAME, name)
#include "ipc/abi/callbacks.def"
	default:
		return "unknown";
	}
}

static inline const char *bh_notification_name(uint32_t kind)
{
	switch (kind) {
#define BH_NOTIFICATION_ROW(klass, index, NAME, name, body, doc) \
	BH_NAME_CASE(BH_NOTIFY_##NAME, name)
#include "ipc/abi/notifications.def"
	default:
		return "unknown";
	}
}

#endif /* BULKHEAD_IPC_ABI_NAMES_H_ */
