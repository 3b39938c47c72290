// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opens through an overlay. overlayfs opens the file below it without an event (FMODE_NONOTIFY in
 * ovl_open_realfile(), fs/overlayfs/file.c), and the overlay is a file system of its own, that has
 * no mark: a user makes one in a user namespace, with a guarded folder below it. So its open
 * function is replaced, by ftrace, as the kernel's live patches do: the access is judged by the
 * file that the overlay would show, and then the function itself is called.
 *
 * What overlayfs reads to copy a file to the upper folder raises an event. A read through an
 * overlay (file_access) is not judged. From Linux 6.5 on the file below is opened with an event,
 * and nothing is replaced.
 *
 * /sys/module/bulkhead/parameters/overlays says whether it is so: N where this kernel can't, or
 * refused to replace the function of an overlayfs that is loaded.
 */
#include <linux/dcache.h>
#include <linux/ftrace.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/version.h>

#include "shim/module/file/file.h"
#include "shim/module/session/kernels.h"

#define RAISES_EVENTS (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0))

#if !RAISES_EVENTS && defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS)

#define OVERLAYFS "overlay"
#define OPEN_FUNCTION "ovl_open"

DEFINE_STATIC_SRCU(judging);
static bool hooked;  /* under hook_mutex */
static bool missing; /* there is an overlayfs without the hook; read without the mutex */
static DEFINE_MUTEX(hook_mutex);

static int judge(const struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;
	int result = 0;

	if (!d_is_reg(dentry))
		return 0;
	if (!(file->f_mode & FMODE_NONOTIFY))
		dentry = bh_real_dentry(dentry);
	else if (d_inode(dentry) != file_inode(file))
		/* For an overlay above this one, which was judged by what is below both. */
		dentry = file_dentry(file);
	else
		return 0; /* a listener's own */
	if (file->f_flags & __FMODE_EXEC)
		result = bh_file_judge(dentry, file->f_mode, file->f_flags, BH_CALLBACK_FILE_EXEC);
	if (!result)
		result = bh_file_judge(dentry, file->f_mode, file->f_flags, BH_CALLBACK_FILE_OPEN);
	return result;
}

/*
 * SUBTLE: overlayfs' own open may take as long as a user likes (a FUSE file system below it), so
 * nothing waits for that but rmmod, which finds the module in use. Where the module goes already,
 * its exit waits.
 *
 * The open is not what is called last here, which would be a jump: it would seem to be called by
 * our caller, and redirect() would lead here again.
 */
static int judged_open(struct inode *inode, struct file *file)
{
	int index = srcu_read_lock(&judging);
	int result = judge(file);

	if (!try_module_get(THIS_MODULE)) {
		if (!result)
			result = file->f_op->open(inode, file);
		srcu_read_unlock(&judging, index);
		return result;
	}
	srcu_read_unlock(&judging, index);
	if (!result)
		result = file->f_op->open(inode, file);
	module_put(THIS_MODULE);
	return result;
}

static void notrace redirect(unsigned long ip, unsigned long caller, struct ftrace_ops *ops,
			     struct ftrace_regs *registers)
{
	if (!within_module(caller, THIS_MODULE))
		bh_set_instruction_pointer(registers, (unsigned long)judged_open);
}

static struct ftrace_ops hook = {
	.func = redirect,
	.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT,
};

/* -EINVAL: there is no such function, as long as overlayfs is not loaded. REQUIRES: hook_mutex */
static int set_hook(void)
{
	char name[] = OPEN_FUNCTION;
	int result;

	if (hooked)
		return 0;
	result = ftrace_set_filter(&hook, name, strlen(name), 1);
	if (result)
		return result;
	result = register_ftrace_function(&hook);
	hooked = !result;
	return result;
}

/* REQUIRES: hook_mutex */
static void remove_hook(void)
{
	if (!hooked)
		return;
	unregister_ftrace_function(&hook);
	hooked = false;
}

static int on_module(struct notifier_block *block, unsigned long state, void *data)
{
	const struct module *module = data;
	int result = 0;

	if (strcmp(module->name, OVERLAYFS))
		return NOTIFY_OK;
	mutex_lock(&hook_mutex);
	if (state == MODULE_STATE_COMING) { /* before its first instruction */
		result = set_hook();
		WRITE_ONCE(missing, result != 0);
	} else if (state == MODULE_STATE_GOING) {
		remove_hook();
		WRITE_ONCE(missing, false);
	}
	mutex_unlock(&hook_mutex);
	if (result)
		pr_warn("bulkhead: opens through overlays are not judged: %d\n", result);
	return NOTIFY_OK;
}

static struct notifier_block modules = {.notifier_call = on_module};

int bh_overlays_init(void)
{
	int result = register_module_notifier(&modules);

	if (result)
		return result;
	mutex_lock(&hook_mutex);
	result = set_hook();
	/* -EINVAL: it is not loaded. */
	WRITE_ONCE(missing, result && (result != -EINVAL || IS_BUILTIN(CONFIG_OVERLAY_FS)));
	mutex_unlock(&hook_mutex);
	return 0;
}

void bh_overlays_exit(void)
{
	unregister_module_notifier(&modules);
	mutex_lock(&hook_mutex);
	remove_hook();
	mutex_unlock(&hook_mutex);
	/* Not before: ftrace does not take one again whose filter was freed. */
	ftrace_free_filter(&hook);
	synchronize_srcu(&judging);
	synchronize_rcu_tasks(); /* for threads on judged_open()'s last instructions */
}

static bool are_judged(void)
{
	return !READ_ONCE(missing);
}

#else /* nothing to replace, or no way to */

int bh_overlays_init(void)
{
	return 0;
}

void bh_overlays_exit(void)
{
}

static bool are_judged(void)
{
	return RAISES_EVENTS;
}

#endif

static int say_judged(char *to, const struct kernel_param *parameter)
{
	return sysfs_emit(to, "%c\n", are_judged() ? 'Y' : 'N');
}

static const struct kernel_param_ops overlays_operations = {.get = say_judged};
module_param_cb(overlays, &overlays_operations, NULL, 0444);
MODULE_PARM_DESC(overlays, "whether what is opened through overlays is judged");
