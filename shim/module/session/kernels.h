/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kernels do differently: Debian 12 has 6.1 and 6.12. The rest of the module is written as for
 * the newer.
 */
#ifndef BULKHEAD_SHIM_MODULE_SESSION_KERNELS_H_
#define BULKHEAD_SHIM_MODULE_SESSION_KERNELS_H_

#include <linux/dcache.h>
#include <linux/fsnotify_backend.h>
#include <linux/ftrace.h>
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

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
/* fsnotify hands over the path of a backing file that is not the one in its struct file. */
#error "Linux 6.5 to 6.7 is not supported; 6.1 and 6.8 are"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
/* Of a file on an overlay: the file that it shows. */
static inline struct dentry *bh_real_dentry(struct dentry *dentry)
{
	return d_real(dentry, NULL);
}
#endif

#ifdef CONFIG_DYNAMIC_FTRACE_WITH_REGS
static inline void bh_set_instruction_pointer(struct ftrace_regs *registers, unsigned long address)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	ftrace_instruction_pointer_set(registers, address);
#else
	ftrace_regs_set_instruction_pointer(registers, address);
#endif
}
#endif

#endif /* BULKHEAD_SHIM_MODULE_SESSION_KERNELS_H_ */
