/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The session's private structures, and what its files owe each other.
 *
 *   module     one stack of channels, a table of sources, one control session at a time
 *   session    an open /dev/bulkhead; what one that died left behind is the next one's to continue
 *   channel    the core's channel, its regions, and the files of the calls that it carries
 *   host       the descriptor of one generation, and the process that serves through it
 *
 * Includes, from the top:
 *
 *   main.c         insmod, rmmod, the operator's eject
 *   control.c      /dev/bulkhead
 *   host.c         a host's descriptor
 *   channel.c  stack.c  sources.c
 *   platform.c     what the core gets from the kernel
 *   call_files.c, events.c, exclusions.c, lock.c
 *
 * Locks, in this order:
 *   bh_control_mutex   everything that a control descriptor changes. Waits for calls only when
 *                      their channels were stopped, which lets every caller go.
 *   bh_call_files.lock of a channel. A leaf.
 *   pids_lock          writers of the exclusion table. A leaf.
 * A caller holds none of them while it waits; what it reads lives in RCU and SRCU.
 */
#ifndef BULKHEAD_SHIM_MODULE_SESSION_SESSION_H_
#define BULKHEAD_SHIM_MODULE_SESSION_SESSION_H_

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/pid.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "ipc/abi/module.h"
#include "shim/core/bulkhead_core.h"
#include "shim/module/session/source.h"

/* ---- call_files.c: the files of the calls in flight of one channel ---- */

struct bh_call_file {
	u64 ticket;
	const struct path *path; /* NULL: none; the caller's, which keeps it while it waits */
};

struct bh_call_files {
	spinlock_t lock;
	u32 slots;
	struct bh_call_file *file; /* by slot */
};

int bh_call_files_init(struct bh_call_files *files, u32 slots);
void bh_call_files_exit(struct bh_call_files *files);
/* The call's file is the one of this slot and ticket from now on, and of no other. */
void bh_call_files_put(struct bh_call_files *files, u32 slot, u64 ticket, struct bh_mcall *mcall);
/* A new read-only descriptor of the file of this call. -ENOENT and dentry_open()'s */
int bh_call_files_fetch(struct bh_call_files *files, u32 slot, u64 ticket,
			const struct cred *opener);

/* ---- channel.c ---- */

struct bh_mchannel {
	struct kref ref; /* session, stack and hosts */
	u32 number;
	struct bh_module_add made; /* as it was asked for */
	u32 slots;
	void *private;
	void *call_region;
	void *reply_region;
	void *notify_region; /* NULL: no ring */
	struct bh_channel *core;
	struct bh_call_files files;
	/* Under bh_control_mutex. */
	struct bh_callback_set notify_kinds; /* that its driver wants */
	struct bh_host *next_host;           /* made and not yet begun */
	u32 hosts;                           /* descriptors that are not closed yet */
	u32 highest;                         /* generation that began */
	u32 continued;                       /* times */
	/* Written under bh_control_mutex, read without. */
	bool left;     /* by a supervisor that died */
	bool draining; /* its host was asked to leave */
	u32 last_end;  /* enum bh_end; written where a generation ends */
	/* Written by callers: generation << 32 | enum bh_end, of a host that its supervisor kills
	 * for what this channel raised as an event. */
	u64 convicted;
};

struct bh_mchannel *bh_mchannel_create(const struct bh_module_add *add, u32 number);
/* One left behind serves on as what is asked for now. -EINVAL, -EBUSY. REQUIRES: bh_control_mutex
 */
int bh_mchannel_continue(struct bh_mchannel *channel, const struct bh_module_add *add);
void bh_mchannel_put(struct bh_mchannel *channel);
/* Not 0: that generation does not serve. */
int bh_mchannel_end(struct bh_mchannel *channel, u32 generation, u32 end);
/* Ends every wait in it: the policies answer. */
void bh_mchannel_stop(struct bh_mchannel *channel);

/* ---- platform.c ---- */

const struct bh_platform *bh_kernel_platform(void);
/* Sleeps until *word != expected. 0, -ETIME or -ERESTARTSYS */
int bh_word_wait(u32 *word, u32 expected, u64 until_ns, int state);
void bh_word_wake(u32 *word);

/* ---- stack.c: the channels that a call visits ---- */

void bh_stack_init(void);
void bh_stack_exit(void);
/* These from now on; NULLs are skipped. -ENOMEM. REQUIRES: bh_control_mutex */
int bh_stack_set(struct bh_mchannel *const *channels, u32 count);
/* Leaves none, and returns when no caller visits one any more. REQUIRES: bh_control_mutex; its
 * channels were stopped. */
void bh_stack_clear(void);

/* ---- sources.c: each for all rows of the table; as in struct bh_source ---- */

int bh_sources_init(void); /* 0, or none is initialised */
void bh_sources_exit(void);
int bh_sources_notify(const struct bh_callback_set *kinds);
int bh_sources_add_guard(const struct bh_module_guard *wanted); /* -EINVAL: of no source's kind */
bool bh_sources_leave(void);
void bh_sources_drop_left(void);
void bh_sources_disarm(void);
void bh_sources_clear(void);
void bh_sources_count(struct bh_module_statistics *to);

/* ---- events.c: what the core raises, for the session to read ---- */

void bh_events_post(u32 channel, u32 event, u32 detail, u32 generation, u64 call_id);
ssize_t bh_events_read(char __user *buffer, size_t bytes, bool wait);
bool bh_events_pending(void);
extern wait_queue_head_t bh_events_queue;
void bh_events_reset(void); /* of denials, too */
/* 0, or -1 when there is no room. */
int bh_denials_post(u32 channel, const struct bh_call *call, const struct bh_denial_cause *cause);
bool bh_denials_take(struct bh_module_denial *denial); /* false: there is none */
bool bh_denials_pending(void);

/* ---- exclusions.c: what only the session does ---- */

int bh_exclude(struct pid *pid); /* takes its own reference; -ENOSPC */
void bh_include(struct pid *pid);
void bh_exclusions_clear(void);

/* ---- control.c ---- */

extern const struct file_operations bh_control_operations;
void bh_control_init(void); /* the last step of insmod */
/* Nothing is guarded any more, and callers that wait go on; descriptors stay, and do nothing.
 * Before bh_control_init() it does nothing, for there is nothing. */
void bh_control_eject(void);
void bh_control_exit(void); /* ejects, for good */

/* ---- host.c. REQUIRES: bh_control_mutex ---- */

/* Returns a descriptor. */
int bh_host_create(struct bh_mchannel *channel);
/* The last one made is the host of this generation from here on. -ENOENT: it is gone already */
int bh_host_begin(struct bh_mchannel *channel, const struct bh_generation_spec *wanted);

#endif /* BULKHEAD_SHIM_MODULE_SESSION_SESSION_H_ */
