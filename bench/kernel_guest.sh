# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel_guest.py. BULKHEAD_BUILD is the build folder; PROGRAM in it is run with
# ARGUMENTS.
. /guest/lib
insmod /modules/bulkhead.ko
code=0
$BULKHEAD_BUILD/$PROGRAM $ARGUMENTS --json /tmp/report >/tmp/table || code=$?
cat /tmp/table
[ $code -le 1 ] || exit  # 1: a figure is missed; else there is no report, and that is an error
bring table /tmp/table
bring report /tmp/report
