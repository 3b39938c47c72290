// SPDX-License-Identifier: GPL-2.0-only
/* Groups of the kernel's notification of file events, with marks on whole file systems. */
#include <linux/err.h>
#include <linux/slab.h>

#include "shim/module/file/file.h"
#include "shim/module/session/kernels.h"

static int make_group(struct bh_fs_group *group)
{
	struct fsnotify_group *made;

	if (group->group)
		return 0;
	made = fsnotify_alloc_group(group->operations, 0);
	if (IS_ERR(made))
		return PTR_ERR(made);
	if (group->content)
		made->priority = FSNOTIFY_PRIO_CONTENT;
	group->group = made;
	return 0;
}

struct fsnotify_mark *bh_fs_mark(struct bh_fs_group *group, struct super_block *sb, u32 mask)
{
	struct fsnotify_mark *mark;
	int result = make_group(group);

	if (result)
		return ERR_PTR(result);
	mark = kzalloc(sizeof(*mark), GFP_KERNEL);
	if (!mark)
		return ERR_PTR(-ENOMEM);
	fsnotify_init_mark(mark, group->group);
	mark->mask = mask;
	result = bh_mark_file_system(mark, sb);
	if (!result)
		return mark;
	fsnotify_put_mark(mark);
	return ERR_PTR(result);
}

void bh_fs_unmark(struct bh_fs_group *group, struct fsnotify_mark *mark)
{
	if (!mark)
		return;
	fsnotify_destroy_mark(mark, group->group);
	fsnotify_put_mark(mark);
}

void bh_fs_mark_free(struct fsnotify_mark *mark)
{
	kfree(mark);
}

void bh_fs_group_clear(struct bh_fs_group *group)
{
	fsnotify_wait_marks_destroyed();
	if (group->group)
		fsnotify_put_group(group->group);
	group->group = NULL;
}
