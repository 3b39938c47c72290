/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's private structures, and what its files owe each other.
 *
 *   module     one stack of channels, some guards, one control session at a time
 *   session    an open /dev/bulkhead; what one that died left behind is the next one's to continue
 *   channel    the core's channel, its two regions, and the files of the calls that it carries
 *   host       the descriptor of one generation; its release is that generation's end
 *
 * Locks, in this order:
 *   bh_control_mutex   everything that a control descriptor changes. Waits for calls only when
 *                      their channels were stopped, which lets every caller go.
 *   files_lock         of a channel: the table of files. A leaf.
 *   pids_lock          writers of the exclusion table. A leaf.
 * A caller holds none of them while it waits; what it reads lives in RCU and SRCU.
 */
#ifndef BULKHEAD_SHIM_MODULE_SESSION_MODULE_H_
#define BULKHEAD_SHIM_MODULE_SESSION_MODULE_H_

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/wait.h>

#include "ipc/abi/module.h"
#include "shim/core/bulkhead_core.h"

/* The file of a call that is under way; the caller's reference keeps it while it waits. */
struct bh_file_entry {
	u64 ticket;
	const struct path *path; /* NULL: none */
};

struct bh_mchannel {
	struct kref ref; /* session, hosts and their mappings */
	u32 number;
	struct bh_module_add made; /* as it was asked for */
	struct bh_geometry geometry;
	u32 slots;
	void *private;
	void *call_region;
	void *reply_region;
	void *notify_region; /* NULL: no ring */
	u32 notify_entries;
	u64 notify_kinds; /* that its driver wants; under bh_control_mutex */
	struct bh_channel *core;
	spinlock_t files_lock;
	struct bh_file_entry *files; /* by slot */
	/* Under bh_control_mutex. */
	struct bh_host *next_host; /* made and not yet begun */
	u32 hosts;                 /* descriptors that are not closed yet */
	u32 highest;               /* generation that began */
	u32 continued;             /* times */
	bool left;                 /* by a supervisor that died; read without the mutex, too */
};

struct bh_host {
	struct bh_mchannel *channel;
	const struct cred *opener; /* who opens files for it */
	u32 generation;            /* 0: not begun; under bh_control_mutex */
};

/* One call, on its caller's stack. */
struct bh_mcall {
	struct bh_call call;
	const struct path *path;
	struct bh_mchannel *file_channel; /* whose table has the file; NULL: none */
	u32 file_slot;
	u64 file_ticket;
};

/* main.c */
extern struct mutex bh_control_mutex;

/* stack.c: the channels that a call visits */
void bh_stack_init(void);
void bh_stack_exit(void);
struct bh_shim *bh_stack_enter(int *index); /* valid until bh_stack_leave(index) */
void bh_stack_leave(int index);
/* These from now on; NULLs are skipped. -ENOMEM. REQUIRES: bh_control_mutex */
int bh_stack_set(struct bh_mchannel *const *channels, u32 count);
/* Leaves none, and returns when no caller visits one any more. REQUIRES: bh_control_mutex; its
 * channels were stopped. */
void bh_stack_clear(void);

/* channel.c */
struct bh_mchannel *bh_mchannel_create(const struct bh_module_add *add, u32 number);
/* One left behind serves on as what is asked for now. -EINVAL, -EBUSY. REQUIRES: bh_control_mutex
 */
int bh_mchannel_continue(struct bh_mchannel *channel, const struct bh_module_add *add);
void bh_mchannel_put(struct bh_mchannel *channel);
/* Ends every wait in it: the policies answer. */
void bh_mchannel_stop(struct bh_mchannel *channel);
void bh_mcall_forget_file(struct bh_mcall *mcall);
/* A new read-only descriptor of the file of this call. -ENOENT and dentry_open()'s */
int bh_mchannel_fetch(struct bh_mchannel *channel, u32 slot, u64 ticket, const struct cred *opener);

/* platform.c */
const struct bh_platform *bh_kernel_platform(void);
/* Sleeps until *word != expected. 0, -ETIME or -ERESTARTSYS */
int bh_word_wait(u32 *word, u32 expected, u64 until_ns, int state);
void bh_word_wake(u32 *word);

/* events.c: what the core raises, for the session to read */
void bh_events_post(u32 channel, u32 event, u32 detail, u32 generation, u64 call_id);
ssize_t bh_events_read(char __user *buffer, size_t bytes, bool wait);
bool bh_events_pending(void);
extern wait_queue_head_t bh_events_queue;
void bh_events_reset(void);

/* exclusions.c: whose accesses cause no calls */
bool bh_excluded(void);
bool bh_excluded_itself(struct task_struct *task); /* not for its ancestors; under RCU */
int bh_exclude(struct pid *pid);                   /* takes its own reference; -ENOSPC */
void bh_include(struct pid *pid);
void bh_exclusions_clear(void);

/* file/change_cookie.c: what tells one content of a file from the next */
void bh_change_init(void);
/* For bh_file_args.change: 0 while no verdict about the file may be kept or taken. */
u64 bh_change_of(struct inode *inode);
/* Somebody who had it open for writing closes it. */
void bh_change_writer_gone(const struct inode *inode);

/* file/filter.c: which accesses below a guard are worth a call; read under RCU */
struct bh_filter {
	u32 modes;
	bool any_owner;
	kuid_t owner;
	u32 skips;
	u32 extensions;
	struct path skip[BH_MODULE_SKIPS];
	char extension[BH_MODULE_EXTENSIONS][BH_MODULE_EXTENSION_BYTES];
};
/* -EINVAL, -EBADF, -ENOTDIR: there is nothing to drop then. */
int bh_filter_init(struct bh_filter *filter, const struct bh_module_filter *wanted);
void bh_filter_drop(struct bh_filter *filter);
bool bh_filter_passes(const struct bh_filter *filter, const struct file *file);

/* file/guards.c: where accesses are calls */
int bh_guards_init(void);
int bh_guards_add(const struct path *path, const struct bh_module_guard *wanted);
bool bh_guards_leave(void);    /* those in force become the next session's; false: there are none */
int bh_guards_drop_left(void); /* those that were not added again; -ENOMEM */
void bh_guards_disarm(void);   /* no new calls */
void bh_guards_clear(void);    /* and no marks; REQUIRES: every channel was stopped */
void bh_guards_exit(void);
u64 bh_guards_filtered(void); /* accesses to what is guarded that its filters let go */
/* Of a guard that covers the file, with a reference; NULL: none does. */
struct vfsmount *bh_guards_mount(struct dentry *dentry);

/* file/notifications.c, process/notifications.c: what drivers are told. REQUIRES: bh_control_mutex
 */
int bh_notes_want(u64 kinds);             /* of all channels; 0: no source is left running */
int bh_notes_add(struct super_block *sb); /* that a guard keeps until bh_notes_clear() */
void bh_notes_clear(void);
int bh_process_want(u64 kinds);
void bh_process_init(void);
/* From any context: */
void bh_notes_who(struct bh_notification *notification, struct task_struct *task);

/* control.c */
extern const struct file_operations bh_control_operations;
/* Nothing is guarded any more, and whoever waits goes on; descriptors stay, and do nothing. */
void bh_control_eject(void);

/* host.c: returns a descriptor. REQUIRES: bh_control_mutex */
int bh_host_create(struct bh_mchannel *channel);
/* The last one made is the host of this generation from here on. -ENOENT: it is gone already */
int bh_host_begin(struct bh_mchannel *channel, const struct bh_module_begin *begin);

#endif /* BULKHEAD_SHIM_MODULE_SESSION_MODULE_H_ */
