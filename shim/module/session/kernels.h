/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kernels do differently: Debian 12 has 6.1 and 6.12. The rest of the module is written as for
 * the newer.
 */
#ifndef BULKHEAD_SHIM_MODULE_SESSION_KERNELS_H_
#define BULKHEAD_SHIM_MODULE_SESSION_KERNELS_H_

#include <linux/fsnotify_backend.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define FSNOTIFY_PRIO_CONTENT FS_PRIO_1
#endif

static inline int bh_mark_file_system(struct fsnotify_mark *mark, struct super_block *sb)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
	return fsnotify_add_mark(mark, &sb->s_fsnotify_marks, FSNOTIFY_OBJ_TYPE_SB, 0, NULL);
#else
	return fsnotify_add_mark(mark, sb, FSNOTIFY_OBJ_TYPE_SB, 0);
#endif
}

#endif /* BULKHEAD_SHIM_MODULE_SESSION_KERNELS_H_ */
