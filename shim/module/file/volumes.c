// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file systems that have a guard. Each has a mark for calls and, while a driver wants
 * notifications about files, one for these. The guards count their file systems here: the first
 * guard on a file system sets its marks, and the last one takes them away.
 */
#include <linux/err.h>
#include <linux/kernel.h>

#include "shim/module/file/file.h"

#define VOLUMES_MAX 129u /* one more than guards: one is added before it replaces another */

struct volume {
	struct super_block *sb;
	u32 guards;
	struct fsnotify_mark *calls;
	struct fsnotify_mark *notifications; /* NULL: none are wanted */
};

/* Under bh_control_mutex. */
static struct volume volumes[VOLUMES_MAX];
static u32 volume_count;
static u32 call_events;
static u32 notification_events;
static struct bh_fs_group calls = {.content = true};
static struct bh_fs_group notifications;

void bh_volumes_init(const struct fsnotify_ops *for_calls, u32 events,
		     const struct fsnotify_ops *for_notifications)
{
	calls.operations = for_calls;
	call_events = events;
	notifications.operations = for_notifications;
}

static struct volume *find(const struct super_block *sb)
{
	u32 i;

	for (i = 0; i < volume_count; i++)
		if (volumes[i].sb == sb)
			return &volumes[i];
	return NULL;
}

static int notify(struct volume *volume)
{
	struct fsnotify_mark *mark;

	if (!notification_events)
		return 0;
	mark = bh_fs_mark(&notifications, volume->sb, notification_events);
	if (IS_ERR(mark))
		return PTR_ERR(mark);
	volume->notifications = mark;
	return 0;
}

static void unmark(struct volume *volume)
{
	bh_fs_unmark(&notifications, volume->notifications);
	bh_fs_unmark(&calls, volume->calls);
}

int bh_volume_get(struct super_block *sb)
{
	struct volume *volume = find(sb);
	struct volume made = {.sb = sb, .guards = 1};
	int result;

	if (volume) {
		volume->guards++;
		return 0;
	}
	if (volume_count == VOLUMES_MAX)
		return -ENOSPC;
	made.calls = bh_fs_mark(&calls, sb, call_events);
	if (IS_ERR(made.calls))
		return PTR_ERR(made.calls);
	result = notify(&made);
	if (result) {
		unmark(&made);
		return result;
	}
	volumes[volume_count++] = made;
	return 0;
}

void bh_volume_put(struct super_block *sb)
{
	struct volume *volume = find(sb);

	if (WARN_ON_ONCE(!volume) || --volume->guards)
		return;
	unmark(volume);
	*volume = volumes[--volume_count];
}

int bh_volumes_notify(u32 events)
{
	int result = 0;
	u32 i;

	if (events == notification_events)
		return 0;
	for (i = 0; i < volume_count; i++) {
		bh_fs_unmark(&notifications, volumes[i].notifications);
		volumes[i].notifications = NULL;
	}
	notification_events = events;
	for (i = 0; i < volume_count && !result; i++)
		result = notify(&volumes[i]);
	return result;
}

void bh_volumes_clear(void)
{
	bh_fs_group_clear(&notifications);
	bh_fs_group_clear(&calls);
}
