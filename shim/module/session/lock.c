// SPDX-License-Identifier: GPL-2.0-only
/* The module's one mutex; session.h has the order of locks. */
#include "shim/module/session/source.h"

DEFINE_MUTEX(bh_control_mutex);
