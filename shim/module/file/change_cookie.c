// SPDX-License-Identifier: GPL-2.0-only
/*
 * What tells one content of a file from the next, so that a remembered verdict is never about
 * other bytes than those that its driver saw.
 *
 * The change time will not do: it moves with the timer tick, and two writes within one tick leave
 * it as it was. The rule instead, for remembering a verdict and for taking a remembered one:
 *
 *   1. No process has the file open for writing, nor mapped writably: i_writecount, which such an
 * open holds until its last mapping is gone, and a truncation while it lasts. Looked at before and
 *      after 2, so that 2 is of a moment between changes.
 *   2. The same generation of the inode's number, i_version, and count of writers gone.
 *
 * A verdict is kept under what 2 was before its driver was asked. If a process writes while the
 * driver looks, he has i_writecount, and leaves another 2 behind: that verdict is never found.
 *
 * i_version (include/linux/iversion.h): once it was queried, the next change makes another of it.
 * Only file systems that say so are believed (SB_I_VERSION; in 6.1 ext4, XFS, btrfs and tmpfs):
 * about files elsewhere nothing is remembered, which is right for what a server may change, too.
 * The count of writers gone is for stores through mappings: tmpfs, which has no page_mkwrite, does
 * not hear of a store to a page that was read through the mapping before.
 */
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/iversion.h>
#include <linux/magic.h>
#include <linux/random.h>
#include <linux/siphash.h>

#include "shim/module/file/change_cookie.h"

#define WRITERS_BITS 10

/* By a hash of the inode; those that share one only make each other forget. */
static atomic64_t writers_gone[1 << WRITERS_BITS];
/* No process may be able to make two contents look the same. */
static siphash_key_t key;

static atomic64_t *writers_of(const struct inode *inode)
{
	return &writers_gone[hash_64(inode->i_ino ^ (u64)inode->i_sb->s_dev << 32, WRITERS_BITS)];
}

void bh_change_init(void)
{
	get_random_bytes(&key, sizeof(key));
}

void bh_change_writer_gone(const struct inode *inode)
{
	atomic64_inc(writers_of(inode));
	/* Before the writer's i_writecount goes down, which is no barrier: see below. */
	smp_mb__after_atomic();
}

u64 bh_change_of(struct inode *inode)
{
	u64 version, writers, change;

	/* btrfs: each subvolume has a file of this number, and snapshots of one version, too. */
	if (!IS_I_VERSION(inode) || inode->i_sb->s_magic == BTRFS_SUPER_MAGIC ||
	    inode_is_open_for_write(inode))
		return 0;
	smp_rmb();
	version = inode_query_iversion(inode);
	writers = atomic64_read(writers_of(inode));
	smp_rmb();
	if (inode_is_open_for_write(inode))
		return 0;
	change = siphash_3u64(version, writers, inode->i_generation, &key);
	return change ? change : 1;
}
