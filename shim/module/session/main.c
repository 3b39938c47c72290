// SPDX-License-Identifier: GPL-2.0-only
/* Coming, going, and the operator's last word: /sys/module/bulkhead/parameters/eject. */
#define pr_fmt(format) KBUILD_MODNAME ": " format

#include <linux/miscdevice.h>
#include <linux/module.h>

#include "shim/module/session/session.h"

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "bulkhead",
	.fops = &bh_control_operations,
	.mode = 0600,
};

static int eject(const char *value, const struct kernel_param *parameter)
{
	bool wanted;
	int result = kstrtobool(value, &wanted);

	if (result || !wanted)
		return result;
	pr_warn("ejected by the operator: nothing is guarded any more\n");
	bh_control_eject();
	return 0;
}

static const struct kernel_param_ops eject_operations = {.set = eject};
module_param_cb(eject, &eject_operations, NULL, 0200);
MODULE_PARM_DESC(eject, "1: stop guarding and let every waiting caller go");

static int __init start(void)
{
	int result;

	bh_stack_init();
	result = bh_sources_init();
	if (result)
		return result;
	bh_control_init();
	result = misc_register(&device);
	if (result) {
		bh_control_exit();
		bh_sources_exit();
		bh_stack_exit();
	}
	return result;
}

/* No process has a descriptor of ours. What a supervisor that died left behind is still there. */
static void __exit stop(void)
{
	misc_deregister(&device);
	bh_control_exit();
	bh_sources_exit();
	bh_stack_exit();
}

module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Forwards file callbacks to drivers in restartable user-mode hosts");
