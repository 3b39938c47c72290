/* SPDX-License-Identifier: GPL-2.0-only */
/* What tells one content of a file from the next. */
#ifndef BULKHEAD_SHIM_MODULE_FILE_CHANGE_COOKIE_H_
#define BULKHEAD_SHIM_MODULE_FILE_CHANGE_COOKIE_H_

#include <linux/types.h>

struct inode;

void bh_change_init(void);
/* For bh_file_args.change: 0 while no verdict about the file may be kept or taken. */
u64 bh_change_of(struct inode *inode);
/* A descriptor that could write to it is being closed. */
void bh_change_writer_gone(const struct inode *inode);

#endif /* BULKHEAD_SHIM_MODULE_FILE_CHANGE_COOKIE_H_ */
