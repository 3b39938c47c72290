// SPDX-License-Identifier: GPL-2.0-only
/* A module that does nothing, for tests of the notification of a load. */
#include <linux/module.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Does nothing; a test loads it");
