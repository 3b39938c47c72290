/* SPDX-License-Identifier: GPL-2.0-only */
/* What a notification says about the process that it is about, or that caused it. */
#ifndef BULKHEAD_SHIM_MODULE_PROCESS_TASK_IDENTITY_H_
#define BULKHEAD_SHIM_MODULE_PROCESS_TASK_IDENTITY_H_

#include "shim/core/bulkhead_core.h"

struct task_struct;

/* Fills all but kind, body and texts. From any context. */
void bh_task_identity(struct bh_notification *notification, struct task_struct *task);

#endif /* BULKHEAD_SHIM_MODULE_PROCESS_TASK_IDENTITY_H_ */
