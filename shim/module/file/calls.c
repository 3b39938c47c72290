// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asks the drivers before a guarded file is opened, executed or read. The kernel calls us in the
 * context of the access, under fsnotify's SRCU read lock: a call may sleep there until its
 * deadline, and a fatal signal ends that.
 */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fcntl.h>
#include <linux/ktime.h>
#include <linux/mount.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>

#include "shim/module/file/change_cookie.h"
#include "shim/module/file/file.h"
#include "shim/module/session/source.h"

/* fsnotify_close() raises it before the writer's i_writecount goes down. */
#define WRITER_GONE FS_CLOSE_WRITE

const u32 bh_file_call_events = FS_OPEN_PERM | FS_OPEN_EXEC_PERM | FS_ACCESS_PERM | WRITER_GONE;

static struct kmem_cache *paths; /* buffers for d_path() */
static DEFINE_PER_CPU(u64, filtered);

static void fill_args(struct bh_file_args *args, struct inode *inode, u32 flags)
{
	const struct cred *cred = current_cred();

	args->pid = (u32)current->tgid;
	args->uid = from_kuid(&init_user_ns, cred->euid);
	args->gid = from_kgid(&init_user_ns, cred->egid);
	args->device = new_encode_dev(inode->i_sb->s_dev);
	args->inode = inode->i_ino;
	args->change = bh_change_of(inode);
	args->size = (u64)i_size_read(inode);
	args->open_flags = flags & VALID_OPEN_FLAGS;
}

/*
 * Whose call it is: the id + 1 of the user that runs the process. In user namespaces, of the user
 * that made the outermost which root did not make: it may have any number of users there.
 */
static u32 opener(void)
{
	const struct cred *cred = current_real_cred();
	const struct user_namespace *ns = cred->user_ns;
	kuid_t user = cred->uid;

	for (; ns != &init_user_ns; ns = ns->parent)
		if (!uid_eq(ns->owner, GLOBAL_ROOT_UID))
			user = ns->owner;
	return from_kuid(&init_user_ns, user) + 1;
}

/* 0, or the negative errno of a denial: the answer of the stack of drivers. */
static int ask(const struct path *path, u32 flags, u32 callback, u64 within_ns, bool audited)
{
	struct inode *inode = d_inode(path->dentry);
	struct bh_mcall mcall = {.path = path};
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
	fill_args(&args, inode, flags);
	BUILD_BUG_ON(sizeof(args) > sizeof(call->args));
	memcpy(call->args, &args, sizeof(args));
	call->args_bytes = sizeof(args);
	call->callback = callback;
	call->descriptor = 0; /* there is a file: send_descriptor() knows which */
	call->reissue = bh_callback_reissue(call->callback);
	call->deadline_ns = now_ns + within_ns;
	call->audited = audited;
	call->opener = opener();
	call->owner = from_kuid(&init_user_ns, inode->i_uid) + 1;
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
	if (!wanted || call->verdict != BH_VERDICT_DENY)
		return 0;
	return call->error ? -(int)call->error : -EPERM;
}

static bool is_to_be_asked(const struct path *path, fmode_t mode, u32 callback, u64 *within_ns,
			   bool *audited)
{
	enum bh_concern concern = bh_guards_concern(path, mode, callback, within_ns, audited);

	if (concern == BH_NOT_GUARDED || bh_excluded())
		return false;
	if (concern == BH_FILTERED)
		this_cpu_inc(filtered);
	return concern == BH_TO_BE_ASKED;
}

int bh_file_judge(struct dentry *dentry, fmode_t mode, u32 flags, u32 callback)
{
	struct path path = {.mnt = NULL, .dentry = dentry};
	u64 within_ns;
	bool audited;
	int result;

	if (!is_to_be_asked(&path, mode, callback, &within_ns, &audited))
		return 0;
	path.mnt = bh_guards_mount(dentry);
	if (!path.mnt) /* its guard has just ended */
		return 0;
	result = ask(&path, flags, callback, within_ns, audited);
	mntput(path.mnt);
	return result;
}

static int handle_event(struct fsnotify_group *from, u32 mask, const void *data, int data_type,
			struct inode *dir, const struct qstr *name, u32 cookie,
			struct fsnotify_iter_info *iter_info)
{
	const struct path *path = fsnotify_data_path(data, data_type);
	const struct file *file;
	u64 within_ns;
	bool audited;
	u32 callback;

	if (!path || !d_is_reg(path->dentry))
		return 0;
	if (mask & WRITER_GONE) { /* also where no guard is, and of an excluded process */
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
	if (!is_to_be_asked(path, file->f_mode, callback, &within_ns, &audited))
		return 0;
	return ask(path, file->f_flags, callback, within_ns, audited);
}

const struct fsnotify_ops bh_file_call_operations = {
	.handle_event = handle_event,
	.free_mark = bh_fs_mark_free,
};

/* Nothing to do. A cache with a constructor is one whose memory the kernel does not clear at each
 * allocation (init_on_alloc), which costs more than the call; no more than a name is ever read. */
static void new_path(void *buffer)
{
}

/* SUBTLE: read while CPUs count: each is one word that grows. */
u64 bh_file_calls_filtered(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu) sum += READ_ONCE(*per_cpu_ptr(&filtered, cpu));
	return sum;
}

void bh_file_calls_reset_counts(void)
{
	int cpu;

	for_each_possible_cpu(cpu) * per_cpu_ptr(&filtered, cpu) = 0;
}

int bh_file_calls_init(void)
{
	paths = kmem_cache_create("bulkhead_path", PATH_MAX, 0, 0, new_path);
	return paths ? 0 : -ENOMEM;
}

void bh_file_calls_exit(void)
{
	kmem_cache_destroy(paths);
}
