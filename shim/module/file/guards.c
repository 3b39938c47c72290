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
#include <linux/fcntl.h>
#include <linux/fsnotify_backend.h>
#include <linux/mount.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uidgid.h>

#include "shim/module/session/module.h"
#include "shim/module/session/kernels.h"

#define GUARDS_MAX 64u
#define GUARDS_ALL (2 * GUARDS_MAX) /* with those that dead sessions left */
#define DECIDING (FS_OPEN_PERM | FS_OPEN_EXEC_PERM | FS_ACCESS_PERM)
/* fsnotify_close() raises it before the writer's i_writecount goes down. */
#define WRITER_GONE FS_CLOSE_WRITE

struct guard {
	struct guard __rcu *next;
	struct path path;
	u32 kind;
	u64 callbacks;
	struct bh_filter filter;
	bool left; /* by a session that died; under bh_control_mutex */
};

/* Read under RCU; changed under bh_control_mutex. */
static struct guard __rcu *guards;
static u64 deadline_ns; /* of all of them */
static DEFINE_PER_CPU(u64, filtered);
static struct kmem_cache *paths; /* buffers for d_path() */
/* Under bh_control_mutex. */
static u32 guard_count;
static u32 own_count; /* of the session that is there now, at most GUARDS_MAX */
static struct fsnotify_group *group;
static struct { /* one for each file system that has a guard, which keeps it */
	struct super_block *sb;
	struct fsnotify_mark *mark;
} marks[GUARDS_ALL + 1]; /* one is added before it replaces another */
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

enum concern {
	NOT_GUARDED,
	FILTERED,
	TO_BE_ASKED,
};

static enum concern concern_of(const struct file *file, u32 callback)
{
	enum concern concern = NOT_GUARDED;
	const struct guard *guard;

	rcu_read_lock();
	for (guard = rcu_dereference(guards); guard && concern != TO_BE_ASKED;
	     guard = rcu_dereference(guard->next))
		if ((guard->callbacks & bh_callback_bit(callback)) && covers(guard, &file->f_path))
			concern = bh_filter_passes(&guard->filter, file) ? TO_BE_ASKED : FILTERED;
	rcu_read_unlock();
	return concern;
}

struct vfsmount *bh_guards_mount(struct dentry *dentry)
{
	struct vfsmount *mount = NULL;
	const struct guard *guard;

	rcu_read_lock();
	for (guard = rcu_dereference(guards); guard && !mount;
	     guard = rcu_dereference(guard->next)) {
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

static void fill_args(struct bh_file_args *args, const struct file *file)
{
	struct inode *inode = d_inode(file->f_path.dentry);
	const struct cred *cred = current_cred();

	args->pid = (u32)current->tgid;
	args->uid = from_kuid(&init_user_ns, cred->euid);
	args->gid = from_kgid(&init_user_ns, cred->egid);
	args->device = new_encode_dev(inode->i_sb->s_dev);
	args->inode = inode->i_ino;
	args->change = bh_change_of(inode);
	args->size = (u64)i_size_read(inode);
	args->open_flags = file->f_flags & VALID_OPEN_FLAGS;
}

/* 0, or -EPERM: the answer of the stack of drivers. */
static int ask(const struct file *file, u32 callback)
{
	struct bh_mcall mcall = {.path = &file->f_path};
	struct bh_call *call = &mcall.call;
	u64 now_ns = ktime_get_coarse_ns();
	struct bh_file_args args;
	struct bh_shim *shim;
	char *buffer, *text;
	u32 wanted;
	int index;

	shim = bh_stack_enter(&index);
	wanted = bh_shim_wants(shim, callback);
	if (!wanted)
		goto leave;
	fill_args(&args, file);
	BUILD_BUG_ON(sizeof(args) != sizeof(call->args));
	memcpy(call->args, &args, sizeof(args));
	call->args_bytes = sizeof(args);
	call->callback = callback;
	call->descriptor = 0; /* there is a file: send_descriptor() knows which */
	call->reissue = BH_REISSUE_FREELY;
	/* SUBTLE: may be set meanwhile; an old one is as good. */
	call->deadline_ns = now_ns + READ_ONCE(deadline_ns);
	bh_call_start(shim, call);
	if (bh_call_try_caches(call, now_ns))
		goto leave;
	/* A name is a courtesy: without memory there is none. */
	buffer = wanted & BH_WANTS_PATH ? kmem_cache_alloc(paths, GFP_NOWAIT | __GFP_NOWARN) : NULL;
	if (buffer) {
		text = d_path(mcall.path, buffer, PATH_MAX);
		if (!IS_ERR(text)) {
			call->payload = text;
			call->payload_bytes = strlen(text);
		}
	}
	bh_call_run_until(call, BH_NO_DEADLINE);
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
	const struct file *file;
	enum concern concern;
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
	/* These three events are fsnotify_perm()'s alone (include/linux/fsnotify.h), and the path
	 * that it hands over is the one in the file. */
	file = container_of(path, struct file, f_path);
	concern = concern_of(file, callback);
	if (concern == NOT_GUARDED || bh_excluded())
		return 0;
	if (concern == FILTERED) {
		this_cpu_inc(filtered);
		return 0;
	}
	return ask(file, callback);
}

static void free_mark(struct fsnotify_mark *mark)
{
	kfree(mark);
}

static const struct fsnotify_ops operations = {
	.handle_event = handle_event,
	.free_mark = free_mark,
};

/* Nothing to do. A cache with a constructor is one whose memory the kernel does not clear at each
 * allocation (init_on_alloc), which costs more than the call; no more than a name is ever read. */
static void new_path(void *buffer)
{
}

int bh_guards_init(void)
{
	bh_change_init();
	paths = kmem_cache_create("bulkhead_path", PATH_MAX, 0, 0, new_path);
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
		made->priority = FSNOTIFY_PRIO_CONTENT;
		group = made;
	}
	mark = kzalloc(sizeof(*mark), GFP_KERNEL);
	if (!mark)
		return -ENOMEM;
	fsnotify_init_mark(mark, group);
	mark->mask = DECIDING | WRITER_GONE;
	result = bh_mark_file_system(mark, sb);
	if (!result) {
		marks[mark_count].sb = sb;
		marks[mark_count++].mark = mark; /* at most one for each guard */
		return 0;
	}
	fsnotify_put_mark(mark);
	return result == -EEXIST ? 0 : result; /* another guard's */
}

static void unmark(u32 i)
{
	fsnotify_destroy_mark(marks[i].mark, group);
	fsnotify_put_mark(marks[i].mark);
	marks[i] = marks[--mark_count];
}

static struct guard *locked(struct guard __rcu *guard)
{
	return rcu_dereference_protected(guard, lockdep_is_held(&bh_control_mutex));
}

static bool has_guard(const struct super_block *sb)
{
	const struct guard *guard;

	for (guard = locked(guards); guard; guard = locked(guard->next))
		if (guard->path.dentry->d_sb == sb)
			return true;
	return false;
}

static void free_guard(struct guard *guard)
{
	bh_filter_drop(&guard->filter);
	path_put(&guard->path);
	kfree(guard);
}

/* The guard of this kind and place that the session before left; NULL: there is none. */
static struct guard *find_left(u32 kind, const struct path *path)
{
	struct guard *guard;

	for (guard = locked(guards); guard; guard = locked(guard->next))
		if (guard->left && guard->kind == kind && path_equal(&guard->path, path))
			return guard;
	return NULL;
}

static void unmark_what_has_no_guard(void)
{
	u32 i;

	for (i = mark_count; i-- > 0;)
		if (!has_guard(marks[i].sb))
			unmark(i);
}

static void drop(struct guard *guard)
{
	struct guard __rcu **link = &guards;

	while (locked(*link) != guard)
		link = &locked(*link)->next;
	rcu_assign_pointer(*link, locked(guard->next));
	guard_count--;
	synchronize_rcu();
	unmark_what_has_no_guard();
	free_guard(guard);
}

int bh_guards_add(const struct path *path, const struct bh_module_guard *wanted)
{
	struct guard *left = find_left(wanted->kind, path);
	struct guard *guard;
	int result;

	if (own_count == GUARDS_MAX || (guard_count == GUARDS_ALL && !left))
		return -ENOSPC;
	guard = kzalloc(sizeof(*guard), GFP_KERNEL_ACCOUNT);
	if (!guard)
		return -ENOMEM;
	result = bh_filter_init(&guard->filter, &wanted->filter);
	if (result) {
		kfree(guard);
		return result;
	}
	guard->path = *path;
	path_get(path);
	guard->kind = wanted->kind;
	guard->callbacks = wanted->callbacks;
	result = mark_file_system(path->dentry->d_sb);
	if (!result)
		result = bh_notes_add(path->dentry->d_sb);
	if (result) {
		unmark_what_has_no_guard();
		free_guard(guard);
		return result;
	}
	WRITE_ONCE(deadline_ns, wanted->deadline_ns);
	RCU_INIT_POINTER(guard->next, locked(guards));
	rcu_assign_pointer(guards, guard);
	guard_count++;
	own_count++;
	if (left)
		drop(left);
	return 0;
}

bool bh_guards_leave(void)
{
	struct guard *guard;

	for (guard = locked(guards); guard; guard = locked(guard->next))
		guard->left = true;
	own_count = 0;
	return guard_count != 0;
}

int bh_guards_drop_left(void)
{
	struct guard *guard, *next;
	int result = 0;

	/* They know file systems by what a guard keeps. What happens meanwhile is not told of. */
	bh_notes_clear();
	for (guard = locked(guards); guard; guard = next) {
		next = locked(guard->next);
		if (guard->left)
			drop(guard);
	}
	for (guard = locked(guards); guard && !result; guard = locked(guard->next))
		result = bh_notes_add(guard->path.dentry->d_sb);
	return result;
}

void bh_guards_disarm(void)
{
	struct guard *last = locked(guards);

	if (!last)
		return;
	bh_notes_clear();
	RCU_INIT_POINTER(guards, NULL);
	synchronize_rcu();
	guard_count = 0;
	own_count = 0;
	unmark_what_has_no_guard();
	while (last) {
		struct guard *next = locked(last->next);

		free_guard(last);
		last = next;
	}
}

/* SUBTLE: read while CPUs count: each is one word that grows. */
u64 bh_guards_filtered(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu) sum += READ_ONCE(*per_cpu_ptr(&filtered, cpu));
	return sum;
}

void bh_guards_clear(void)
{
	int cpu;

	bh_guards_disarm();
	/* Marks go when no caller is left in them: those that waited for a host have been let go.
	 */
	fsnotify_wait_marks_destroyed();
	if (group)
		fsnotify_put_group(group);
	group = NULL;
	for_each_possible_cpu(cpu) * per_cpu_ptr(&filtered, cpu) = 0;
}
