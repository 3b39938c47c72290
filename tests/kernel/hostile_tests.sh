# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.hostile: a host that misuses everything it has, and guards over
# Bulkhead's own files. BULKHEAD_HOSTILE_SECONDS: how long the host does so.
. /guest/lib
. $BULKHEAD_TESTS/module_lib.sh

pids() { status | sed -n 's/.* pid \([0-9]*\), content.*/\1/p'; }
all_serve() { [ "$(status | grep -c ': serving, ')" = 2 ]; }
hosts_die_and_come_back() {
  local hosts
  hosts=$(pids)
  kill -KILL $hosts
  for host in $hosts; do while [ -e /proc/$host ]; do :; done; done
  cat $guarded/clean && until all_serve; do :; done
}

insmod /modules/bulkhead.ko
before=$(areas)
# On the debug kernel a host has hardly begun after half a second.
expect a_hostile_host_only_hurts_itself $BULKHEAD_BUILD/bin/hostile_module_host \
  --folder $guarded --seconds ${BULKHEAD_HOSTILE_SECONDS:-30} \
  ${BULKHEAD_DEBUG_KERNEL:+--life-ms 5000}
expect nobody_has_a_descriptor becomes 0 cat /sys/module/bulkhead/refcnt
expect memory_is_given_back becomes "$before" areas

# The drivers' code and content, and the files that the supervisor writes, are in folders that they
# guard. If a supervisor's or a host's access to them caused a call, it would wait for itself.
echo clean >$guarded/clean
cp -r $BULKHEAD_BUILD/drivers/scanner $BULKHEAD_BUILD/drivers/null $guarded
state=/var/lib/bulkhead
mkdir -p $state
chmod 700 $state
expect starts_from_what_it_guards quickly start --driver $guarded/scanner --driver $guarded/null \
  --guard $state --deadline 60s
expect hosts_start_from_what_they_guard quickly hosts_die_and_come_back
expect content_comes_from_there quickly $bulkhead content --driver scanner \
  --rules $guarded/scanner/rules
die
expect a_take_over_does quickly start --driver $guarded/scanner --driver $guarded/null \
  --guard $state --deadline 60s
expect keeps_one_folder [ "$(ls $state | wc -l)" = 1 ]
expect nothing_waited_for_itself cat $guarded/clean
expect ends_in_order stop
expect unload rmmod bulkhead
finish
