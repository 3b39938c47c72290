# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.module: the module between the guest's kernel and drivers in user mode.
# BULKHEAD_BUILD is the build folder; BULKHEAD_DEBUG_KERNEL is set on the debug kernel, and BULKHEAD_LONG
# there for the steps that repeat with other values what the module has done in another step.
. /guest/lib
. $BULKHEAD_TESTS/module_lib.sh

repeats() { [ -z "$BULKHEAD_DEBUG_KERNEL" ] || [ -n "$BULKHEAD_LONG" ]; }

append() { echo more >>"$1"; }

echo clean >$guarded/clean
echo elsewhere >/tmp/elsewhere
printf '#!/bin/busybox sh\n' >$guarded/script
chmod +x $guarded/script

# A parameter is also set before and while the module initialises, and when it goes.
expect load_ejected insmod /modules/bulkhead.ko eject=1
expect eject_when_loaded sh -c 'echo 1 >/sys/module/bulkhead/parameters/eject'
expect unload_ejected rmmod bulkhead
(while [ ! -e /tmp/enough ]; do echo 1 >/sys/module/bulkhead/parameters/eject; done) 2>/dev/null &
ejecting=$!
for i in 1 2 3 4 5 6 7 8 9 10; do
  # The writer may just have the module's folder open.
  insmod /modules/bulkhead.ko eject=1 && until rmmod bulkhead 2>/dev/null; do :; done || break
done
touch /tmp/enough
wait $ejecting
expect ejects_at_any_time [ $i = 10 ] && ! loaded

expect load insmod /modules/bulkhead.ko
expect doctor sh -c "$bulkhead doctor | grep -q '^attachment module  *works'"

# Which accesses cause calls.
start --driver null
expect opens_a_file cat $guarded/clean
expect executes_a_file $guarded/script
calls=$(count calls)
cat /tmp/elsewhere
ls $guarded >/dev/null
expect asks_about_guarded_files_only [ "$(count calls)" = "$calls" ]
expect counts_calls [ "$calls" -ge 3 ]
expect doctor_knows_that_it_is_in_use sh -c "$bulkhead doctor | grep -q '^attachment module  *works, and'"
expect one_supervisor_at_a_time sh -c "! $bulkhead run --attachment module --driver null --guard /run"
expect ends_in_order stop
calls=

# The verdict reaches the caller, and follows the file.
make_infected $guarded/eicar
chmod +x $guarded/eicar
start --driver scanner
expect refuses_the_infected_file refused $guarded/eicar
expect refuses_to_execute_it sh -c "! $guarded/eicar 2>/dev/null"
expect opens_the_clean_file cat $guarded/clean
expect refuses_it_again refused $guarded/eicar
echo clean >/tmp/clean
mv /tmp/clean $guarded/eicar
expect a_verdict_is_about_the_file cat $guarded/eicar
# A guard is about the place: the folder is moved away, and another one comes.
protected() { $bulkhead status --check >/dev/null 2>&1; }
expect is_full_protection protected
mkdir /tmp/another
make_infected /tmp/another/eicar
mv $guarded /tmp/before
expect is_no_protection_without_a_folder sh -c "! $bulkhead status --check >/dev/null 2>&1"
mv /tmp/another $guarded
expect is_full_protection_again protected
expect refuses_in_the_folder_that_came refused $guarded/eicar
rm -r $guarded
mv /tmp/before $guarded
expect is_full_protection_of_the_first protected
expect ends_after_denials stop

# Through an overlay of a user's, which is a file system without a mark. Debian's overlayfs is a module,
# which comes after ours, goes, comes again, and is there before ours.
mkdir /tmp/below /tmp/plain
chmod 777 $guarded /tmp/below
# over FOLDER COMMAND: what a user sees in /tmp/over. Fails when there is no overlay.
mkdir -m 777 /tmp/over
over() {
  su -s /bin/sh nobody -c "unshare -U -r -m sh -c 'mount -t overlay overlay /tmp/over \
    -o lowerdir=$1:/tmp/below && $2'"
}
needs_overlays() { [ ! -e /modules/overlay.ko ] || insmod /modules/overlay.ko; }
makes_do_without() { [ ! -e /modules/overlay.ko ] || rmmod overlay; }
judged() { cat /sys/module/bulkhead/parameters/overlays; }
printf '%s\n# %s%s\n' '#!/bin/busybox true' BULKHEAD-TEST-MARKER -DENY-ME >/tmp/plain/run
cp /tmp/plain/run $guarded/run
make_infected $guarded/bad
make_infected /tmp/plain/bad
chmod 755 /tmp/plain/run $guarded/run
start --driver scanner
# On the debug kernel overlayfs is built in, and neither comes nor goes.
times=first
[ ! -e /modules/overlay.ko ] || times='first second'
for time in $times; do
  expect overlays_come_a_${time}_time needs_overlays
  expect overlays_are_judged_a_${time}_time [ "$(judged)" = Y ]
  expect opens_a_clean_file_through_an_overlay_a_${time}_time over $guarded 'cat /tmp/over/clean'
  expect refuses_an_infected_one_a_${time}_time over $guarded '! cat /tmp/over/bad'
  expect overlays_go_a_${time}_time makes_do_without
done
needs_overlays
expect an_overlay_of_other_folders_is_not_asked_about over /tmp/plain 'cat /tmp/over/bad >/dev/null'
expect executes_through_it over /tmp/plain /tmp/over/run
expect refuses_to_execute_through_an_overlay over $guarded '! /tmp/over/run'
expect refuses_through_an_overlay_of_an_overlay over $guarded \
  'mkdir /tmp/over2 && mount -t overlay overlay /tmp/over2 -o lowerdir=/tmp/over:/tmp/plain && ! cat /tmp/over2/bad'
# The guard is of an overlay itself, and a user's is above it.
stop
mkdir /tmp/middle
mount -t overlay overlay /tmp/middle -o lowerdir=/tmp/plain:/tmp/below
guarded=/tmp/middle start --driver scanner
expect refuses_what_a_guarded_overlay_shows refused /tmp/middle/bad
expect refuses_through_an_overlay_of_a_guarded_one over /tmp/middle '! cat /tmp/over/bad'
expect executes_nothing_through_it_either over /tmp/middle '! /tmp/over/run'
stop
umount /tmp/middle
start --driver scanner
mkdir -p /tmp/writes/upper /tmp/writes/work
mount -t overlay overlay /tmp/over \
  -o lowerdir=$guarded,upperdir=/tmp/writes/upper,workdir=/tmp/writes/work
expect refuses_to_write_through_an_overlay sh -c '! echo more >>/tmp/over/bad'
expect leaves_no_copy_of_it [ ! -e /tmp/writes/upper/bad ]
expect changes_no_mode_of_it_through_an_overlay sh -c '! chmod 700 /tmp/over/bad'
expect makes_no_link_to_it_through_an_overlay sh -c '! ln /tmp/over/bad /tmp/over/link'
expect gives_it_no_name_through_an_overlay sh -c '! mv /tmp/over/bad /tmp/over/moved'
expect leaves_no_copy_of_it_after_changes sh -c '! find /tmp/writes/upper -type f | grep .'
expect changes_modes_through_an_overlay chmod 700 /tmp/over/clean
expect writes_through_an_overlay sh -c 'echo more >>/tmp/over/clean'
expect refuses_what_root_opens_through_an_overlay refused /tmp/over/bad
umount /tmp/over
expect is_full_protection_with_overlays protected
expect ends_with_overlays stop
rm $guarded/bad $guarded/run
start --driver null --events exec
before=$(count calls)
over $guarded 'cat /tmp/over/script' >/dev/null
expect asks_about_no_opens_through_an_overlay [ "$(count calls)" = "$before" ]
over $guarded /tmp/over/script
expect asks_about_executions_through_an_overlay [ "$(count calls)" = $((before + 1)) ]
stop

run_gtest guards 120 "$BULKHEAD_BUILD/bin/module_guard_check"
run_gtest host_ends 120 "$BULKHEAD_BUILD/bin/module_host_end_check"

# Filters: accesses that cause no calls.
mkdir -p $guarded/skipped/deep
for name in a.txt A.TXT txt .txt a.tar.gz skipped/deep/a.txt; do echo clean >$guarded/$name; done
echo clean >$guarded/nobodys
chown 65534 $guarded/nobodys
# Each status takes a second on the debug kernel: one serves for all that it is asked for.
only_about() {
  local name=$1 option=$2 asked=$3 unasked=$4 before between after
  shift 4
  start --driver null $option
  before=$(count calls)
  $asked >/dev/null 2>&1
  between=$(count calls)
  $unasked >/dev/null 2>&1
  after=$(status)
  expect "asks_$name" [ "$between" = $((before + 1)) ]
  expect "does_not_ask_$name" [ "$(says "$after" 's/.* \([0-9]*\) calls.*/\1/p')" = "$between" ]
  # Counters that have counted nothing are not shown.
  expect "counts_what_it_does_not_ask_$name" \
    [ "$(says "$after" 's/.*, filtered \([0-9]*\).*/\1/p' 0)" -ge 1 ]
  stop
}
only_about by_long_extension '--extensions tar.gz,txt' "cat $guarded/a.tar.gz" "cat $guarded/txt"
only_about outside_a_folder "--skip-under $guarded/skipped" "cat $guarded/a.txt" \
  "cat $guarded/skipped/deep/a.txt"
only_about about_writes '--mode write' "append $guarded/a.txt" "cat $guarded/a.txt"
only_about by_all_of_them '--mode read --extensions txt --owner 0' "cat $guarded/a.txt" \
  "cat $guarded/clean"
# These decide by the functions that the four above have run, or are refused in user mode.
if repeats; then
  only_about by_owner '--owner 65534' "cat $guarded/nobodys" "cat $guarded/clean"
  only_about by_extension '--extensions exe,txt' "cat $guarded/a.txt" "cat $guarded/clean"
  only_about by_extension_in_any_case '--extensions TxT' "cat $guarded/A.TXT" "cat $guarded/txt"
  only_about by_extension_alone '--extensions txt' "cat $guarded/.txt" "cat $guarded/a.tar.gz"
  only_about about_reads '--mode read' "cat $guarded/a.txt" "append $guarded/a.txt"
  start --driver null --events exec
  before=$(count calls)
  cat $guarded/script >/dev/null
  expect asks_about_executions_only [ "$(count calls)" = "$before" ]
  $guarded/script
  expect asks_about_executions [ "$(count calls)" = $((before + 1)) ]
  stop
  expect refuses_a_deadline_that_is_too_long sh -c "$bulkhead run --attachment module --driver null \
    --deadline 11m --guard $guarded 2>&1 | grep -q 'takes up to 600 s'"
  expect fanotify_refuses_filters sh -c "$bulkhead run --attachment fanotify --driver null --owner 0 \
    --guard $guarded 2>&1 | grep -q 'owner needs attachment .module.'"
  expect refuses_to_skip_nothing sh -c "! $bulkhead run --attachment module --driver null --guard $guarded \
    --skip-under /nowhere"
  start --driver first-byte
  echo clean >/tmp/outside.keep
  ln /tmp/outside.keep $guarded/a.keep
  expect knows_an_open_for_reading cat $guarded/a.keep
  expect knows_an_open_for_writing sh -c "! echo more >>$guarded/a.keep"
  stop
fi

# Counters.
start --driver first-byte --cache 64
cat $guarded/a.txt $guarded/a.txt $guarded/a.txt >/dev/null
expect counts_calls_and_answers [ "$(counts calls answered cached)" = '3 1 2' ]
printf I >/tmp/outside.bad
ln /tmp/outside.bad $guarded/bad
refused $guarded/bad
refused $guarded/bad
expect counts_denials [ "$(counts calls answered denied)" = '5 2 2' ]
echo clean >/tmp/outside.none
ln /tmp/outside.none $guarded/a.none
expect denies_what_a_driver_declines refused $guarded/a.none
expect counts_answers_by_policy [ "$(counts calls 'by policy')" = '6 1' ]
stop

# The verdict about a file is dropped from the cache when the file changes.
mkdir /tmp/outside
start --driver first-byte --cache 4096
cat $guarded/clean >/dev/null
asked=$(count answered)
for i in 1 2 3 4 5; do cat $guarded/clean >/dev/null; done
expect remembers [ "$(count answered)" = "$asked" ]
# Each round takes ten times as long on the debug kernel.
CHECK_ROUNDS=1000
[ -z "$BULKHEAD_DEBUG_KERNEL" ] || CHECK_ROUNDS=100
export CHECK_GUARDED=$guarded CHECK_OUTSIDE=/tmp/outside CHECK_ROUNDS
run_gtest content_change 240 "$BULKHEAD_BUILD/bin/content_change_check"
expect remembers_in_between [ "$(count cached)" -gt $((3 * CHECK_ROUNDS)) ]
expect ends_after_changes stop
mkdir /tmp/rules
echo 'rule clean { strings: $a = "clean" condition: $a }' >/tmp/rules/clean.yar
start --driver scanner --cache 4096
cat $guarded/clean $guarded/clean >/dev/null
expect remembers_by_content [ "$(counts answered cached)" = '1 1' ]
expect takes_new_content $bulkhead content --driver scanner --rules /tmp/rules
expect new_content_ends_what_was_remembered refused $guarded/clean
stop

# Its host dies repeatedly; the opens continue. On a slow machine a restart may take longer than the
# default deadline.
start --driver null --deadline 300s
opens=0 tries=0 kills=0
# More than the crashes in ten seconds that are a crash loop. On the debug kernel they take longer.
enough=6
repeats || enough=2
while [ $kills -lt $enough ]; do
  victim=$(host)
  if [ "${victim:-0}" -gt 0 ]; then
    kill -KILL "$victim"
    kills=$((kills + 1))
  fi
  for i in 1 2 3 4 5; do
    cat $guarded/clean >/dev/null && opens=$((opens + 1))
    tries=$((tries + 1))
  done
done
expect opens_go_on_when_hosts_die [ "$opens" = "$tries" ]
expect another_host_serves [ "$(host)" -gt 0 ]
expect nothing_was_answered_by_policy [ "$(count 'by policy')" = 0 ]
stop

start --driver null
kill -KILL $supervisor
wait $supervisor
expect opens_go_on_when_the_supervisor_dies cat $guarded/clean

expect unload rmmod bulkhead
expect opens_without_the_module cat $guarded/clean
expect opens_through_an_overlay_without_the_module over $guarded 'cat /tmp/over/clean'

# The module comes when overlayfs is there already, as it always is on the debug kernel.
expect load_after_overlayfs insmod /modules/bulkhead.ko
if repeats; then
  make_infected $guarded/bad
  start --driver scanner
  expect opens_a_clean_file_through_an_overlay_that_was_there over $guarded 'cat /tmp/over/clean'
  expect refuses_an_infected_one_through_it over $guarded '! cat /tmp/over/bad'
  stop
fi
expect unload_before_overlayfs rmmod bulkhead
! repeats || expect opens_anything_through_an_overlay over $guarded 'cat /tmp/over/bad'
! loaded || result failed gone "still loaded"
finish
