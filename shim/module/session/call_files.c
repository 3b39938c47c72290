// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of the calls in flight of one channel. A host asks for the file of a call that it has,
 * by slot and ticket; the caller, which waits, keeps the file.
 */
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/vmalloc.h>

#include "shim/module/session/session.h"

int bh_call_files_init(struct bh_call_files *files, u32 slots)
{
	spin_lock_init(&files->lock);
	files->slots = slots;
	files->file = vcalloc(slots, sizeof(*files->file));
	return files->file ? 0 : -ENOMEM;
}

void bh_call_files_exit(struct bh_call_files *files)
{
	vfree(files->file);
}

void bh_call_files_put(struct bh_call_files *files, u32 slot, u64 ticket, struct bh_mcall *mcall)
{
	bh_mcall_forget_file(mcall); /* of an issue before this one */
	spin_lock(&files->lock);
	files->file[slot].ticket = ticket;
	files->file[slot].path = mcall->path;
	spin_unlock(&files->lock);
	mcall->files = files;
	mcall->file_slot = slot;
	mcall->file_ticket = ticket;
}

void bh_mcall_forget_file(struct bh_mcall *mcall)
{
	struct bh_call_files *files = mcall->files;

	if (!files)
		return;
	spin_lock(&files->lock);
	/* The slot may have another call by now, perhaps with a file of the same path. */
	if (files->file[mcall->file_slot].ticket == mcall->file_ticket)
		files->file[mcall->file_slot].path = NULL;
	spin_unlock(&files->lock);
	mcall->files = NULL;
}

/* With a reference; its dentry is NULL when that call is not in the slot. */
static struct path find(struct bh_call_files *files, u32 slot, u64 ticket)
{
	struct path path = {};

	if (slot >= files->slots || ticket == BH_TICKET_NONE)
		return path;
	spin_lock(&files->lock);
	if (files->file[slot].path && files->file[slot].ticket == ticket) {
		path = *files->file[slot].path;
		path_get(&path);
	}
	spin_unlock(&files->lock);
	return path;
}

int bh_call_files_fetch(struct bh_call_files *files, u32 slot, u64 ticket,
			const struct cred *opener)
{
	struct path path = find(files, slot, ticket);
	const struct cred *own;
	struct file *file;
	int fd;

	if (!path.dentry)
		return -ENOENT;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto put_path;
	/*
	 * Its own accesses to this file cause no calls; what it may read, the operator's supervisor
	 * may: that is asked with its rights, because a host may open next to nothing by itself.
	 * Without waiting: another user's lease on the file, or a pipe without a writer, would keep
	 * a worker of the host for as long as that user likes.
	 */
	own = override_creds(opener);
	file = dentry_open(&path,
			   O_RDONLY | O_LARGEFILE | O_NOATIME | O_NONBLOCK |
				   (__force int)FMODE_NONOTIFY,
			   opener);
	revert_creds(own);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
	} else {
		fd_install(fd, file);
	}
put_path:
	path_put(&path);
	return fd;
}
