/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The files source: calls about guarded files, and notifications about files on guarded file
 * systems. Includes, from the top:
 *
 *   source.c          the row in the table of sources
 *   calls.c           asks the drivers before an access
 *   overlays.c        the same for files that an overlay shows
 *   notifications.c   tells the drivers after a change
 *   guards.c          the list of guards: which accesses are calls, with which deadline
 *   volumes.c         the file systems that have a guard, and their marks
 *   guard_filter.c, change_cookie.c, fs_marks.c
 *
 * What changes under bh_control_mutex here is read by callers under RCU.
 */
#ifndef BULKHEAD_SHIM_MODULE_FILE_FILE_H_
#define BULKHEAD_SHIM_MODULE_FILE_FILE_H_

#include <linux/fs.h>
#include <linux/fsnotify_backend.h>
#include <linux/path.h>
#include <linux/uidgid.h>

#include "ipc/abi/module.h"

/* guard_filter.c: which accesses below a guard are worth a call; read under RCU */
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
bool bh_filter_passes(const struct bh_filter *filter, struct dentry *dentry, fmode_t mode);

/* fs_marks.c: an fsnotify group, made when it is needed. REQUIRES: bh_control_mutex */
struct bh_fs_group {
	const struct fsnotify_ops *operations; /* with free_mark = bh_fs_mark_free */
	bool content;                          /* runs before groups that only watch */
	struct fsnotify_group *group;          /* NULL: not made yet */
};
/* The mark of a file system for events of this mask, or an ERR_PTR(). */
struct fsnotify_mark *bh_fs_mark(struct bh_fs_group *group, struct super_block *sb, u32 mask);
/* SUBTLE: callers may still be in it afterwards. NULL is skipped. */
void bh_fs_unmark(struct bh_fs_group *group, struct fsnotify_mark *mark);
void bh_fs_mark_free(struct fsnotify_mark *mark);
/* Returns when no caller is in a mark any more. REQUIRES: all of them were taken away. */
void bh_fs_group_clear(struct bh_fs_group *group);

/* volumes.c: the file systems that have a guard. REQUIRES: bh_control_mutex, but for init */
void bh_volumes_init(const struct fsnotify_ops *calls, u32 call_events,
		     const struct fsnotify_ops *notifications);
/* One more guard, or one less, on this file system, which the guard keeps mounted. */
int bh_volume_get(struct super_block *sb);
void bh_volume_put(struct super_block *sb);
/* Notifications come from these events; 0: none. */
int bh_volumes_notify(u32 events);
/* REQUIRES: no guards. Returns when no caller is in a mark any more. */
void bh_volumes_clear(void);

/* guards.c. REQUIRES: bh_control_mutex, but for the last two */
int bh_guards_add(const struct path *path, const struct bh_module_guard *wanted);
bool bh_guards_leave(void); /* those in force become the next session's; false: there are none */
void bh_guards_drop_left(void); /* those that were not added again */
void bh_guards_disarm(void);    /* no new calls */
enum bh_concern {
	BH_NOT_GUARDED,
	BH_FILTERED, /* a guard covers it, and its filter lets it go */
	BH_TO_BE_ASKED,
};
/*
 * What the guards say about an access in this mode. Without a mount (NULL) it is not known how the
 * file is reached: what lies below a mount's root is in it. To be asked: *within_ns is how long the
 * call may take. Where several guards cover the file and want the call, that is the longest of
 * their deadlines: a guard's driver does not get less time because another guard covers the file,
 * too. *audited: each of those is audited.
 */
enum bh_concern bh_guards_concern(const struct path *path, fmode_t mode, u32 callback,
				  u64 *within_ns, bool *audited);
/* Of a guard that covers the file, with a reference; NULL: none does. */
struct vfsmount *bh_guards_mount(struct dentry *dentry);

/* overlays.c */
int bh_overlays_init(void);
void bh_overlays_exit(void);

/* calls.c */
/* Asks about an access to a file that raises no event here, as one in this mode and with these
 * flags. 0, or a denial's negative errno. */
int bh_file_judge(struct dentry *dentry, fmode_t mode, u32 flags, u32 callback);
extern const struct fsnotify_ops bh_file_call_operations;
extern const u32 bh_file_call_events;
int bh_file_calls_init(void);
void bh_file_calls_exit(void);
u64 bh_file_calls_filtered(void); /* accesses to what is guarded that filters let go */
void bh_file_calls_reset_counts(void);

/* notifications.c */
extern const struct fsnotify_ops bh_file_notification_operations;
u32 bh_file_notification_events(
	const struct bh_callback_set *kinds); /* the events that they come from */

#endif /* BULKHEAD_SHIM_MODULE_FILE_FILE_H_ */
