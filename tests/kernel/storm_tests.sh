# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.storm: calls through the module while its host, its supervisor and the
# module itself are replaced; afterwards nothing of them is left. BULKHEAD_STORM: the storm's
# options, --short unless it is set.
. /guest/lib
. $BULKHEAD_TESTS/module_lib.sh

insmod /modules/bulkhead.ko
before=$(areas)
expect storm $BULKHEAD_BUILD/bin/storm-module --reload /modules/bulkhead.ko ${BULKHEAD_STORM---short}
expect nobody_has_a_descriptor becomes 0 cat /sys/module/bulkhead/refcnt
expect memory_is_given_back becomes "$before" areas
# A flood of one user's, and another's opens.
expect fairness $BULKHEAD_BUILD/bin/storm-fairness --attach module --short --unlimited
expect its_channel_is_given_back becomes "$before" areas
# rmmod reports objects left in the module's cache in the kernel's log, which run_guest.py checks.
expect unload rmmod bulkhead
expect nothing_is_mapped becomes 0 areas
finish
