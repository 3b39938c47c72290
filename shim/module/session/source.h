/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A source of callbacks: a folder beside this one, and a row in the table below. The session
 * knows a source by its row only; a source knows of the session what this header has.
 */
#ifndef BULKHEAD_SHIM_MODULE_SESSION_SOURCE_H_
#define BULKHEAD_SHIM_MODULE_SESSION_SOURCE_H_

#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/sched.h>

#include "ipc/abi/module.h"
#include "shim/core/bulkhead_core.h"

/* What is NULL, the source does without. All but init and exit REQUIRE bh_control_mutex. */
struct bh_source {
	const char *name;
	int (*init)(void);  /* at insmod */
	void (*exit)(void); /* after clear(), at rmmod */
	/* Notifications of these kinds from now on, and of no others. */
	int (*notify)(const struct bh_callback_set *kinds);
	/* One more guard. -ENOIOCTLCMD: this kind of guard is another source's. */
	int (*add_guard)(const struct bh_module_guard *wanted);
	/* The session ended, or sets its guards anew: those stay until drop_left(). false: there
	 * are none. */
	bool (*leave)(void);
	/* Those that were left, and were not added again. */
	void (*drop_left)(void);
	/* No new calls; calls in flight go on. */
	void (*disarm)(void);
	/* No guards, and no caller is in the source any more when it returns. REQUIRES: every
	 * channel was stopped, so that callers go. */
	void (*clear)(void);
	void (*count)(struct bh_module_statistics *to); /* adds its counters */
};

/* The table: one row for each, in the order in which they initialise. */
#define BH_SOURCES(row) row(file) row(process)

#define BH_SOURCE_DECLARE(name) extern const struct bh_source bh_##name##_source;
BH_SOURCES(BH_SOURCE_DECLARE)

/* lock.c */
extern struct mutex bh_control_mutex;

/* stack.c: the channels that a call visits */
struct bh_shim *bh_stack_enter(int *index); /* valid until bh_stack_leave(index) */
void bh_stack_leave(int index);

/* exclusions.c: processes whose accesses cause no calls */
bool bh_excluded(void);
bool bh_excluded_itself(struct task_struct *task); /* not for its ancestors; under RCU */

/*
 * One call, on its caller's stack. The source fills `call` and `path`, and calls
 * bh_mcall_forget_file() once the call has ended, while `path` still holds.
 */
struct bh_mcall {
	struct bh_call call;
	const struct path *path; /* of the file that a host may ask for; NULL: none */
	/* call_files.c */
	struct bh_call_files *files; /* the table that has the file; NULL: none */
	u32 file_slot;
	u64 file_ticket;
};
void bh_mcall_forget_file(struct bh_mcall *mcall);

#endif /* BULKHEAD_SHIM_MODULE_SESSION_SOURCE_H_ */
