// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where accesses are calls: an fsnotify group of our own, with a mark on each file system that has
 * something to guard, narrowed here to mounts and trees.
 *
 * The group's callbacks run in the caller's context under fsnotify's SRCU read lock. They may
 * sleep, for as long as the call's deadline lets them, and a fatal signal ends that.
 */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fsnotify_backend.h>
#include <linux/mount.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uidgid.h>

#include "shim/module/bh_module.h"

#define GUARDS_MAX 64u
#define DECIDING (FS_OPEN_PERM | FS_OPEN_EXEC_PERM | FS_ACCESS_PERM)
/* fsnotify_close() raises it before the writer's i_writecount goes down. */
#define WRITER_GONE FS_CLOSE_WRITE

struct guard {
	struct path path;
	u32 kind;
	u64 callbacks;
};

/* Read under RCU; replaced as a whole. */
struct guards {
	struct rcu_head rcu;
	u64 deadline_ns;
	u32 count;
	struct guard guard[GUARDS_MAX];
};

static struct guards __rcu *guards;
static struct kmem_cache *paths; /* buffers for d_path() */
/* Under bh_control_mutex. */
static struct fsnotify_group *group;
static struct fsnotify_mark *marks[GUARDS_MAX]; /* one for each file system */
static u32 mark_count;

static bool covers(const struct guard *guard, const struct path *path)
{
	switch (guard->kind) {
	case BH_GUARD_FILESYSTEM:
		return path->dentry->d_sb == guard->path.dentry->d_sb;
	case BH_GUARD_MOUNT:
		return path->mnt == guard->path.mnt;
	default:
		return path->dentry->d_sb == guard->path.dentry->d_sb &&
		       is_subdir(path->dentry, guard->path.dentry);
	}
}

/* The deadline's span; 0: nobody is to be asked. */
static u64 guarded(const struct path *path, u32 callback)
{
	const struct guards *now;
	u64 deadline_ns = 0;
	u32 i;

	rcu_read_lock();
	now = rcu_dereference(guards);
	for (i = 0; now && i < now->count && !deadline_ns; i++)
		if ((now->guard[i].callbacks & bh_callback_bit(callback)) &&
		    covers(&now->guard[i], path))
			deadline_ns = now->deadline_ns;
	rcu_read_unlock();
	return deadline_ns;
}

struct vfsmount *bh_guards_mount(struct dentry *dentry)
{
	const struct guards *now;
	struct vfsmount *mount = NULL;
	u32 i;

	rcu_read_lock();
	now = rcu_dereference(guards);
	for (i = 0; now && i < now->count && !mount; i++) {
		const struct guard *guard = &now->guard[i];
		/* How it was reached is not told: what lies below a mount's root is in it. */
		struct path path = {.mnt = guard->path.mnt, .dentry = dentry};

		if (guard->kind == BH_GUARD_MOUNT ? dentry->d_sb == guard->path.dentry->d_sb &&
							    is_subdir(dentry, path.mnt->mnt_root)
						  : covers(guard, &path))
			mount = mntget(guard->path.mnt);
	}
	rcu_read_unlock();
	return mount;
}

static void fill_args(struct bh_file_args *args, struct inode *inode)
{
	const struct cred *cred = current_cred();

	args->pid = (u32)current->tgid;
	args->uid = from_kuid(&init_user_ns, cred->euid);
	args->gid = from_kgid(&init_user_ns, cred->egid);
	args->device = new_encode_dev(inode->i_sb->s_dev);
	args->inode = inode->i_ino;
	args->change = bh_change_of(inode);
	args->size = (u64)i_size_read(inode);
	args->open_flags = 0; /* fsnotify does not tell */
}

/* 0, or -EPERM: the answer of the stack of drivers. */
static int ask(const struct path *path, u32 callback, u64 deadline_ns)
{
	struct bh_mcall mcall = {.path = path};
	struct bh_call *call = &mcall.call;
	struct bh_file_args args;
	struct bh_shim *shim;
	char *buffer, *text;
	int index, wanted;

	shim = bh_stack_enter(&index);
	wanted = bh_shim_wants(shim, callback);
	if (!wanted)
		goto leave;
	fill_args(&args, d_inode(path->dentry));
	BUILD_BUG_ON(sizeof(args) != sizeof(call->args));
	memcpy(call->args, &args, sizeof(args));
	call->args_bytes = sizeof(args);
	call->callback = callback;
	call->descriptor = 0; /* there is a file: send_descriptor() knows which */
	call->reissue = BH_REISSUE_FREELY;
	call->deadline_ns = ktime_get_coarse_ns() + deadline_ns;
	/* A name is a courtesy: without memory there is none. */
	buffer = kmem_cache_alloc(paths, GFP_NOWAIT | __GFP_NOWARN);
	if (buffer) {
		text = d_path(path, buffer, PATH_MAX);
		if (!IS_ERR(text)) {
			call->payload = text;
			call->payload_bytes = strlen(text);
		}
	}
	bh_call_run(shim, call);
	bh_mcall_forget_file(&mcall);
	if (buffer)
		kmem_cache_free(paths, buffer);
leave:
	bh_stack_leave(index);
	return wanted && call->verdict == BH_VERDICT_DENY ? -EPERM : 0;
}

static int handle_event(struct fsnotify_group *from, u32 mask, const void *data, int data_type,
			struct inode *dir, const struct qstr *name, u32 cookie,
			struct fsnotify_iter_info *iter_info)
{
	const struct path *path = fsnotify_data_path(data, data_type);
	u64 deadline_ns;
	u32 callback;

	if (!path || !d_is_reg(path->dentry))
		return 0;
	if (mask & WRITER_GONE) { /* whoever it was, and wherever */
		bh_change_writer_gone(d_inode(path->dentry));
		return 0;
	}
	if (mask & FS_OPEN_EXEC_PERM)
		callback = BH_CALLBACK_FILE_EXEC;
	else if (mask & FS_OPEN_PERM)
		callback = BH_CALLBACK_FILE_OPEN;
	else if (mask & FS_ACCESS_PERM)
		callback = BH_CALLBACK_FILE_ACCESS;
	else
		return 0;
	deadline_ns = guarded(path, callback);
	if (!deadline_ns || bh_excluded())
		return 0;
	return ask(path, callback, deadline_ns);
}

static void free_mark(struct fsnotify_mark *mark)
{
	kfree(mark);
}

static const struct fsnotify_ops operations = {
	.handle_event = handle_event,
	.free_mark = free_mark,
};

int bh_guards_init(void)
{
	bh_change_init();
	paths = kmem_cache_create("bulkhead_path", PATH_MAX, 0, 0, NULL);
	return paths ? 0 : -ENOMEM;
}

/* REQUIRES: bh_guards_clear() */
void bh_guards_exit(void)
{
	kmem_cache_destroy(paths);
}

static int mark_file_system(struct super_block *sb)
{
	struct fsnotify_mark *mark;
	int result;

	if (!group) {
		struct fsnotify_group *made = fsnotify_alloc_group(&operations, 0);

		if (IS_ERR(made))
			return PTR_ERR(made);
		made->priority = FS_PRIO_1;
		group = made;
	}
	mark = kzalloc(sizeof(*mark), GFP_KERNEL);
	if (!mark)
		return -ENOMEM;
	fsnotify_init_mark(mark, group);
	mark->mask = DECIDING | WRITER_GONE;
	result = fsnotify_add_mark(mark, &sb->s_fsnotify_marks, FSNOTIFY_OBJ_TYPE_SB, 0, NULL);
	if (!result) {
		marks[mark_count++] = mark; /* at most one for each guard */
		return 0;
	}
	fsnotify_put_mark(mark);
	return result == -EEXIST ? 0 : result; /* another guard's */
}

static void free_guards(struct guards *last)
{
	u32 i;

	for (i = 0; i < last->count; i++)
		path_put(&last->guard[i].path);
	kfree(last);
}

int bh_guards_add(const struct path *path, const struct bh_module_guard *wanted)
{
	struct guards *last = rcu_dereference_protected(guards, lockdep_is_held(&bh_control_mutex));
	struct guards *next;
	u32 i;
	int result;

	if (last && last->count == GUARDS_MAX)
		return -ENOSPC;
	next = kzalloc(sizeof(*next), GFP_KERNEL);
	if (!next)
		return -ENOMEM;
	if (last) {
		next->count = last->count;
		memcpy(next->guard, last->guard, sizeof(next->guard));
		for (i = 0; i < next->count; i++)
			path_get(&next->guard[i].path);
	}
	next->deadline_ns = wanted->deadline_ns;
	next->guard[next->count].path = *path;
	next->guard[next->count].kind = wanted->kind;
	next->guard[next->count].callbacks = wanted->callbacks;
	path_get(path);
	next->count++;
	result = mark_file_system(path->dentry->d_sb);
	if (!result)
		result = bh_notes_add(path->dentry->d_sb);
	if (result) {
		free_guards(next);
		return result;
	}
	rcu_assign_pointer(guards, next);
	synchronize_rcu();
	if (last)
		free_guards(last);
	return 0;
}

void bh_guards_disarm(void)
{
	struct guards *last = rcu_dereference_protected(guards, lockdep_is_held(&bh_control_mutex));

	if (!last)
		return;
	bh_notes_clear();
	RCU_INIT_POINTER(guards, NULL);
	synchronize_rcu();
	free_guards(last);
}

void bh_guards_clear(void)
{
	bh_guards_disarm();
	while (mark_count) {
		struct fsnotify_mark *mark = marks[--mark_count];

		fsnotify_destroy_mark(mark, group);
		fsnotify_put_mark(mark);
	}
	/* Marks go when no caller is left in them: those that waited for a host have been let go.
	 */
	fsnotify_wait_marks_destroyed();
	if (group)
		fsnotify_put_group(group);
	group = NULL;
}
