// SPDX-License-Identifier: GPL-2.0-only
/*
 * What drivers are told about files on file systems that have a guard. The events come after the
 * fact and wait for nothing. An event that no driver wants has no mark.
 */
#include <linux/dcache.h>
#include <linux/fsnotify_backend.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "shim/module/file/change_cookie.h"
#include "shim/module/file/file.h"
#include "shim/module/process/task_identity.h"
#include "shim/module/session/source.h"

static const struct {
	u32 event;
	u32 kind;
} events[] = {
	{FS_CREATE, BH_NOTIFY_FILE_CREATED},      {FS_MODIFY, BH_NOTIFY_FILE_MODIFIED},
	{FS_CLOSE_WRITE, BH_NOTIFY_FILE_WRITTEN}, {FS_RENAME, BH_NOTIFY_FILE_RENAMED},
	{FS_DELETE, BH_NOTIFY_FILE_DELETED},
};

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

	bh_task_identity(&notification, current);
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

const struct fsnotify_ops bh_file_notification_operations = {
	.handle_event = handle_event,
	.free_mark = bh_fs_mark_free,
};

u32 bh_file_notification_events(const struct bh_callback_set *kinds)
{
	u32 i, mask = 0;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		if (bh_set_has(kinds, events[i].kind))
			mask |= events[i].event;
	return mask;
}
