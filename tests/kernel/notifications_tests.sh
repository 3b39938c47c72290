# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.notifications: the notifications of the module, and that each is
# delivered or counted as lost. BULKHEAD_BUILD is the build folder, FORKS the size of the flood,
# OPENS the number of opens measured beside one, LATENCY_PERCENT_MAX, where it is set, the limit for
# p99.
. /guest/lib
. $BULKHEAD_TESTS/module_lib.sh
flood=$BULKHEAD_BUILD/bin/flood
echo clean >$guarded/clean

# Afterwards `field NAME` has the counter's value before any other command ran.
snapshot() { $bulkhead status >/tmp/status; }
field() { sed -n "s/.* \([0-9][0-9]*\) $1.*/\1/p" /tmp/status; }
logged() { grep -q -- "$*" /tmp/run.out; }

insmod /modules/bulkhead.ko || { result failed load; exit 1; }

# Events that are notified, and events that are not.
start --driver observer --driver-options log
expect does_something $flood moves $guarded
mkdir /tmp/elsewhere
$flood moves /tmp/elsewhere
expect loads_a_module insmod /modules/unrelated.ko
rmmod unrelated
expect ends stop
cat /tmp/run.out
expect tells_of_a_new_file logged "file_created pid [0-9]* parent [0-9]* $guarded/a"
expect tells_of_a_write logged "file_modified pid [0-9]* parent [0-9]* $guarded/a"
expect tells_of_a_close logged "file_written pid [0-9]* parent [0-9]* $guarded/a"
expect tells_of_a_rename logged "file_renamed pid [0-9]* parent [0-9]* $guarded/a $guarded/b"
expect tells_of_a_deletion logged "file_deleted pid [0-9]* parent [0-9]* $guarded/b"
expect tells_of_a_program logged "process_executed pid [0-9]* parent $$ $flood $flood moves $guarded"
expect tells_of_processes logged "process_created [1-9]"
expect tells_of_their_ends logged "process_exited [1-9]"
expect tells_of_a_module logged "module_loaded pid [0-9]* parent $$ unrelated"
expect is_silent_about_other_folders sh -c "! grep -q 'file_.* /tmp/elsewhere' /tmp/run.out"
expect is_silent_about_its_own_side sh -c "! grep -q 'process_.*bulkhead-host' /tmp/run.out"

# A flood, and a driver that takes in nothing until an open after it. The flood itself counts its
# events.
start --driver observer --driver-options hold
# No other process between the snapshots: the shell's own would count.
snapshot; first=$(field notified)
snapshot; second=$(field notified)
snapshot; third=$(field notified)
read -r begin _ </proc/uptime
$flood forks "$FORKS" >/tmp/forks
read -r end _ </proc/uptime
snapshot; fourth=$(field notified)
read -r forks </tmp/forks
expect every_snapshot_has_the_count [ -n "$first" -a -n "$second" -a -n "$third" -a -n "$fourth" ]
# Each process is created and exits; the flood itself also executes.
happened=$((fourth - third - (third - second)))
expect the_guest_is_quiet [ $((second - first)) = $((third - second)) ]
expect counts_all_that_happened [ "$happened" = $((2 * forks + 3)) ]
cat $guarded/clean >/dev/null
tries=0
while [ "$(field unread)" -gt 0 ] && [ $tries -lt 500 ]; do
  snapshot
  tries=$((tries + 1))
done
lost=$(field lost)
# The debug kernel would take minutes for more events than the ring holds.
[ -n "$BULKHEAD_DEBUG_KERNEL" ] || expect loses_what_the_driver_does_not_take_in [ "$lost" -gt 0 ]
expect ends_after_the_flood stop
grep told /tmp/run.out
set -- $(sed -n 's/.*told \([0-9]*\), missed \([0-9]*\), last number \([0-9]*\).*/\1 \2 \3/p' /tmp/run.out)
expect each_was_told_or_missed [ $(($1 + $2)) = "$3" ]
expect the_driver_knows_how_many_it_missed [ "$2" = "$lost" ]
result passed flood "$forks processes in $((${end%.*} - ${begin%.*})) s: $happened happened, $1 told, $2 lost, in all $3"

# The cost of a verdict meanwhile. opens DRIVER: the microseconds, alone and beside a flood.
opens() {
  start --driver "$@"
  $flood opens $guarded/clean $OPENS >/tmp/alone
  $flood forks 10000000 >/dev/null &
  local bomb=$!
  $flood opens $guarded/clean $OPENS >/tmp/beside
  kill -KILL $bomb
  wait $bomb
  stop
  read -r median99 </tmp/alone
  read -r beside99 </tmp/beside
}
opens null
null="alone $median99, beside the flood $beside99"
null99=${beside99#* }
opens observer --driver-options slow-2000
percent=$((100 * ${beside99#* } / null99))
result passed latency "open, median and p99 in us: nothing is told: $null; all is told: alone $median99, \
beside the flood $beside99; p99 beside the flood is $percent % of that untold"
# On an otherwise idle machine only.
[ -z "$LATENCY_PERCENT_MAX" ] || expect delays_no_verdict [ $percent -le "$LATENCY_PERCENT_MAX" ]

expect unload rmmod bulkhead
finish
