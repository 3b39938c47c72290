// SPDX-License-Identifier: GPL-2.0-only
/*
 * What drivers are told about files: an fsnotify group of its own beside the guards', with a mark
 * on each file system that has a guard. Its events come after the fact and wait for nothing. A kind
 * that nobody wants has no mark.
 */
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fsnotify_backend.h>
#include <linux/ktime.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "shim/module/session/module.h"
#include "shim/module/session/kernels.h"

#define SUPER_BLOCKS_MAX 128u /* as many as guards, with those that dead sessions left */

static const struct {
	u32 event;
	u32 kind;
} events[] = {
	{FS_CREATE, BH_NOTIFY_FILE_CREATED},      {FS_MODIFY, BH_NOTIFY_FILE_MODIFIED},
	{FS_CLOSE_WRITE, BH_NOTIFY_FILE_WRITTEN}, {FS_RENAME, BH_NOTIFY_FILE_RENAMED},
	{FS_DELETE, BH_NOTIFY_FILE_DELETED},
};

/* Under bh_control_mutex. */
static struct fsnotify_group *group;
static struct super_block *super_blocks[SUPER_BLOCKS_MAX]; /* kept by the guards */
static struct fsnotify_mark *marks[SUPER_BLOCKS_MAX];
static u32 super_block_count, mark_count;
static u64 wanted;

void bh_notes_who(struct bh_notification *notification, struct task_struct *task)
{
	const struct cred *cred;

	notification->time_ns = ktime_get_ns();
	rcu_read_lock();
	cred = __task_cred(task);
	notification->pid = (u32)task->tgid;
	notification->start_ns = task->group_leader->start_boottime;
	notification->parent = (u32)rcu_dereference(task->real_parent)->tgid;
	notification->uid = from_kuid(&init_user_ns, cred->euid);
	notification->gid = from_kgid(&init_user_ns, cred->egid);
	notification->cgroup = cgroup_id(task_dfl_cgroup(task));
	rcu_read_unlock();
}

static void fill_file(struct bh_notify_file *file, struct inode *inode)
{
	file->device = new_encode_dev(inode->i_sb->s_dev);
	file->inode = inode->i_ino;
	file->change = bh_change_of(inode);
	file->size = (u64)i_size_read(inode);
	file->generation = inode->i_generation;
	file->mode = inode->i_mode;
}

/*
 * The name of a file as it is seen through a mount: of `dentry`, or of `leaf` below it. Empty when
 * it is too long.
 */
static const char *name_of(struct vfsmount *mount, struct dentry *dentry, const struct qstr *leaf,
			   char *buffer, size_t *bytes)
{
	struct path path = {.mnt = mount, .dentry = dentry};
	size_t room = leaf ? leaf->len + 1 : 0;
	char *name;

	*bytes = 0;
	if (!buffer || room >= PATH_MAX / 2)
		return NULL;
	name = d_path(&path, buffer, (int)(PATH_MAX - room));
	if (IS_ERR(name))
		return NULL;
	*bytes = strlen(name);
	if (leaf) {
		name[*bytes] = '/';
		memcpy(name + *bytes + 1, leaf->name, leaf->len);
		*bytes += room;
	}
	return name;
}

/* A name is a courtesy: without memory there is none. */
static char *name_buffer(void)
{
	return kmem_cache_alloc(names_cachep, GFP_NOWAIT | __GFP_NOWARN);
}

static void drop_buffer(char *buffer)
{
	if (buffer)
		kmem_cache_free(names_cachep, buffer);
}

static void tell(const struct bh_shim *shim, u32 kind, struct inode *inode, struct vfsmount *mount,
		 struct dentry *parent, const struct qstr *leaf, struct dentry *dentry)
{
	struct bh_notification notification = {.kind = kind};
	char *buffer = name_buffer(), *buffer2 = NULL;

	bh_notes_who(&notification, current);
	fill_file(&notification.body.file, inode);
	if (parent)
		notification.text = name_of(mount, parent, leaf, buffer, &notification.text_bytes);
	else
		notification.text = name_of(mount, dentry, NULL, buffer, &notification.text_bytes);
	if (parent && dentry) {
		buffer2 = name_buffer();
		notification.text2 = name_of(mount, dentry, NULL, buffer2,
					     &notification.text2_bytes);
	}
	bh_shim_notify(shim, &notification);
	drop_buffer(buffer2);
	drop_buffer(buffer);
}

static u32 kind_of(u32 mask)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		if (mask & events[i].event)
			return events[i].kind;
	return 0;
}

/* A rename comes with the file under its new name, and with the old name beside it. */
static int handle_event(struct fsnotify_group *from, u32 mask, const void *data, int data_type,
			struct inode *dir, const struct qstr *name, u32 cookie,
			struct fsnotify_iter_info *iter_info)
{
	struct inode *inode = fsnotify_data_inode(data, data_type);
	struct dentry *dentry = fsnotify_data_dentry(data, data_type);
	u32 kind = kind_of(mask);
	struct vfsmount *mount = NULL;
	struct dentry *parent = NULL;
	struct bh_shim *shim;
	int index;

	if (!kind || !inode || !S_ISREG(inode->i_mode) || bh_excluded())
		return 0;
	shim = bh_stack_enter(&index);
	if (!bh_shim_wants_notification(shim, kind))
		goto leave;
	if (dir && name && (kind == BH_NOTIFY_FILE_RENAMED || !dentry))
		parent = d_find_any_alias(dir);
	if (dentry)
		mount = bh_guards_mount(dentry);
	if (!mount && parent)
		mount = bh_guards_mount(parent);
	if (mount) {
		tell(shim, kind, inode, mount, parent, name, dentry);
		mntput(mount);
	}
	dput(parent);
leave:
	bh_stack_leave(index);
	return 0;
}

static void free_mark(struct fsnotify_mark *mark)
{
	kfree(mark);
}

static const struct fsnotify_ops operations = {
	.handle_event = handle_event,
	.free_mark = free_mark,
};

static u32 events_of(u64 kinds)
{
	u32 i, mask = 0;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		if (kinds & bh_notification_bit(events[i].kind))
			mask |= events[i].event;
	return mask;
}

static int mark_file_system(struct super_block *sb)
{
	u32 mask = events_of(wanted);
	struct fsnotify_mark *mark;
	int result;

	if (!mask)
		return 0;
	if (!group) {
		struct fsnotify_group *made = fsnotify_alloc_group(&operations, 0);

		if (IS_ERR(made))
			return PTR_ERR(made);
		group = made;
	}
	mark = kzalloc(sizeof(*mark), GFP_KERNEL);
	if (!mark)
		return -ENOMEM;
	fsnotify_init_mark(mark, group);
	mark->mask = mask;
	result = bh_mark_file_system(mark, sb);
	if (result) {
		fsnotify_put_mark(mark);
		return result;
	}
	marks[mark_count++] = mark; /* one for each super block at most */
	return 0;
}

static void unmark(void)
{
	while (mark_count) {
		struct fsnotify_mark *mark = marks[--mark_count];

		fsnotify_destroy_mark(mark, group);
		fsnotify_put_mark(mark);
	}
	if (group)
		fsnotify_put_group(group);
	group = NULL;
}

int bh_notes_add(struct super_block *sb)
{
	u32 i;
	int result;

	for (i = 0; i < super_block_count; i++)
		if (super_blocks[i] == sb)
			return 0;
	if (super_block_count == SUPER_BLOCKS_MAX)
		return -ENOSPC;
	result = mark_file_system(sb);
	if (!result)
		super_blocks[super_block_count++] = sb;
	return result;
}

void bh_notes_clear(void)
{
	unmark();
	super_block_count = 0;
}

int bh_notes_want(u64 kinds)
{
	u64 before = wanted;
	u32 i;
	int result = bh_process_want(kinds);

	wanted = kinds;
	if (events_of(before) == events_of(kinds))
		return result;
	unmark();
	for (i = 0; i < super_block_count && !result; i++)
		result = mark_file_system(super_blocks[i]);
	return result;
}
