# SPDX-License-Identifier: Apache-2.0
# The guest script of bench-kernel-guest. BULKHEAD_BUILD is the build folder, ARGUMENTS are for
# bench-kernel.
. /guest/lib
insmod /modules/bulkhead.ko
code=0
$BULKHEAD_BUILD/bin/bench-kernel $ARGUMENTS --json /tmp/report >/tmp/table || code=$?
cat /tmp/table
[ $code -le 1 ] || exit  # 1: a figure is missed; else there is no report, and that is an error
bring table /tmp/table
bring report /tmp/report
