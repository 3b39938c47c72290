// SPDX-License-Identifier: GPL-2.0-only
/* Files as a source of callbacks: its row in the table. */
#include <linux/errno.h>
#include <linux/file.h>

#include "shim/module/file/change_cookie.h"
#include "shim/module/file/file.h"
#include "shim/module/session/source.h"

static int init(void)
{
	int result;

	bh_change_init();
	bh_volumes_init(&bh_file_call_operations, bh_file_call_events,
			&bh_file_notification_operations);
	result = bh_file_calls_init();
	if (result)
		return result;
	result = bh_overlays_init();
	if (result)
		bh_file_calls_exit();
	return result;
}

static void leave_all(void)
{
	bh_overlays_exit();
	bh_file_calls_exit();
}

static int notify(const struct bh_callback_set *kinds)
{
	return bh_volumes_notify(bh_file_notification_events(kinds));
}

static int add_guard(const struct bh_module_guard *wanted)
{
	struct file *place;
	int result;

	if (wanted->kind < BH_GUARD_TREE || wanted->kind > BH_GUARD_FILESYSTEM)
		return -ENOIOCTLCMD;
	if (!bh_mode_known(wanted->mode))
		return -EINVAL;
	place = fget(wanted->fd);
	if (!place)
		return -EBADF;
	result = bh_guards_add(&place->f_path, wanted);
	fput(place);
	return result;
}

static void clear(void)
{
	bh_guards_disarm();
	bh_volumes_clear();
	bh_file_calls_reset_counts();
}

static void count(struct bh_module_statistics *to)
{
	to->filtered += bh_file_calls_filtered();
}

const struct bh_source bh_file_source = {
	.name = "file",
	.init = init,
	.exit = leave_all,
	.notify = notify,
	.add_guard = add_guard,
	.leave = bh_guards_leave,
	.drop_left = bh_guards_drop_left,
	.disarm = bh_guards_disarm,
	.clear = clear,
	.count = count,
};
