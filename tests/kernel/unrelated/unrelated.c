// SPDX-License-Identifier: GPL-2.0-only
/* A module that does nothing, for tests of what is told when one is loaded. */
#include <linux/module.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Nothing, to be loaded");
