#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sparse over the module and the core: user pointers taken for the kernel's, locks that are not
# released on every path, RCU pointers used as plain ones.
#   sparse_test.sh KERNEL_HEADERS FOLDER   FOLDER: the copy that kbuild compiles bulkhead.ko in
# Exit code 77: sparse is not installed (apt install sparse), nothing was checked.
set -eu
if ! command -v sparse >/dev/null; then
	echo "skipped: sparse is not installed (apt install sparse)"
	exit 77
fi
exec env -u MAKEFLAGS -u CFLAGS -u CC \
	make --silent -C "$1" M="$2" C=2 CF=-Wsparse-error modules
