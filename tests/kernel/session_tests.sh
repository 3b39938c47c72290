# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.session: the state that a dead supervisor leaves in the kernel, its
# takeover by another, and its end.
. /guest/lib
. $BULKHEAD_TESTS/module_lib.sh

mkdir /tmp/other
echo clean >$guarded/clean
make_infected $guarded/eicar
make_infected /tmp/other/eicar

# An open that waits in the kernel when this returns: `waiter`.
wait_for_a_host() {
  cat "$1" >/dev/null 2>&1 &
  waiter=$!
  while [ -e /proc/$waiter ] && ! grep -q bh_word_wait /proc/$waiter/stack; do :; done
}
waits() { grep -q bh_word_wait /proc/$waiter/stack 2>/dev/null; }
allowed() { wait $waiter; }
denied() { ! wait $waiter; }
fails() { ! "$@" 2>/dev/null; }
generation() { status_says 's/.*generation \([0-9]*\),.*/\1/p'; }
nobody_has_it() {
  local until=$(($(now) + 20))
  while [ "$(cat /sys/module/bulkhead/refcnt)" != 0 ]; do [ "$(now)" -lt $until ] || return 1; done
}

insmod /modules/bulkhead.ko

# The next supervisor continues the session of the dead one.
start --driver scanner --deadline 60s
expect a_host_refuses refused $guarded/eicar
before=$(generation)
die
wait_for_a_host $guarded/eicar
infected=$waiter
expect callers_wait_when_the_supervisor_died waits
expect nobody_has_a_descriptor nobody_has_it
wait_for_a_host $guarded/clean
start --driver scanner --deadline 60s
expect says_that_it_takes_over grep -q 'takes over the kernel module' /tmp/run.out
expect who_waited_for_a_clean_file_gets_it allowed
waiter=$infected
expect who_waited_for_an_infected_one_does_not denied
expect its_calls_are_of_the_same_channel [ "$(count 'by policy')" = 0 ]
expect generations_go_on [ "$(generation)" -gt "$before" ]
expect ends_in_order stop
expect nothing_is_left_of_an_orderly_end cat $guarded/eicar

# Repeatedly.
start --driver scanner --deadline 60s
for round in 1 2 3 4 5; do
  die
  wait_for_a_host $guarded/eicar
  start --driver scanner --deadline 60s
  denied || break
done
expect takes_over_again_and_again [ $round = 5 ]
expect its_generations_add_up [ "$(generation)" -ge 6 ]
expect nothing_was_answered_by_policy [ "$(count 'by policy')" = 0 ]

# The policy while no host is there.
die
start --driver scanner --deadline 60s --on-crashed deny --on-absent deny
die
nobody_has_it
expect denies_by_policy refused $guarded/clean
expect starting_what_can_not_start fails $bulkhead run --attachment module --driver nothing \
  --guard $guarded
expect changes_nothing refused $guarded/clean
# Without a waiting open: doctor also closes a fanotify group, which waits for them.
expect doctor_works sh -c "$bulkhead doctor | grep -q '^attachment module  *works'"
expect and_changes_nothing refused $guarded/clean
start --driver scanner --deadline 60s --on-crashed allow --on-absent allow
expect another_policy_is_in_force cat $guarded/clean
die
nobody_has_it
expect allows_by_policy cat $guarded/eicar

# Another driver, another folder: the former's state, which the new supervisor does not want, is
# dropped.
start --driver scanner --deadline 60s --guard /tmp/other
die
wait_for_a_host /tmp/other/eicar
start --driver null --deadline 60s
expect lets_go_who_waited_for_what_is_gone quickly allowed
expect serves_with_another_driver cat $guarded/eicar
calls=$(count calls)
expect guards_no_more cat /tmp/other/eicar
expect makes_no_calls_there [ "$(count calls)" = "$calls" ]
die

# The operator's eject, and the module's removal.
wait_for_a_host $guarded/eicar
expect eject $bulkhead eject
expect lets_waiting_callers_go quickly allowed
expect guards_nothing cat $guarded/eicar
start --driver scanner --deadline 60s
expect guards_again refused $guarded/eicar
$bulkhead eject
expect its_instance_knows_that_it_is_ejected becomes 1 sh -c "$bulkhead status --check | grep -c 'was ejected'"
expect its_check_fails fails $bulkhead status --check
stop
start --driver scanner --deadline 60s
die
wait_for_a_host $guarded/eicar
nobody_has_it
expect unload rmmod bulkhead
expect unloading_lets_callers_go quickly allowed
expect opens_without_the_module cat $guarded/eicar
expect ejects_what_is_not_there $bulkhead eject --unload

# bulkheadd leaves its hosts to the next one: for the kernel nothing has happened.
insmod /modules/bulkhead.ko
cat >/tmp/bulkhead.toml <<TOML
[service]
attachment = "module"
[[driver]]
name = "scanner"
[[guard]]
folder = "$guarded"
TOML
chmod 600 /tmp/bulkhead.toml
serve() {
  : >/tmp/run.out
  $BULKHEAD_BUILD/bin/bulkheadd --config /tmp/bulkhead.toml >/tmp/run.out 2>&1 &
  supervisor=$!
  becomes 1 grep -c 'bulkhead: ready' /tmp/run.out || result failed serve "$(cat /tmp/run.out)"
}
serve
first=$(host)
before=$(generation)
expect a_service_refuses refused $guarded/eicar
went_on=0
for round in 1 2 3 4 5; do
  die
  refused $guarded/eicar && cat $guarded/clean >/dev/null || break # by the host that nobody supervises
  serve
  [ "$(host)" = "$first" ] && [ "$(generation)" = "$before" ] || break
  went_on=$round
done
expect the_next_service_goes_on_with_its_host [ $went_on = 5 ]
expect it_was_asked_all_the_time [ "$(count 'by policy')" = 0 ]
kill -KILL "$first"
expect a_host_that_is_gone_on_with_is_replaced refused $guarded/eicar
expect and_is_another [ "$(host)" != "$first" ]
first=$(host)
die
kill -KILL "$first"
serve
expect a_host_that_died_meanwhile_is_replaced refused $guarded/eicar
expect its_generations_go_on [ "$(generation)" -gt "$before" ]
expect a_service_ends_in_order stop
expect nothing_is_left_of_it cat $guarded/eicar
expect ejects_after_it $bulkhead eject --unload

# A driver, and a guard, that are watched before they decide.
insmod /modules/bulkhead.ko
configure() { # MODE_OF_THE_DRIVER MODE_OF_THE_GUARD
  cat >/tmp/bulkhead.toml <<TOML
[service]
attachment = "module"
[[driver]]
name = "scanner"
mode = "$1"
cache = 64
[[guard]]
folder = "$guarded"
mode = "$2"
TOML
}
reload() { $bulkhead reload >/dev/null 2>&1; }
told() { $bulkhead events --json | grep -c "$1"; }
configure audit enforce
serve
expect an_audited_driver_denies_nothing cat $guarded/eicar
expect nor_does_its_cache cat $guarded/eicar
expect says_what_it_would_have becomes 2 told '"event":"WouldDeny".*"audited":"driver".*"path":"'$guarded/eicar
expect names_the_process [ "$(told '"comm":"[a-z]')" = 2 ]
expect counts_it [ "$(count 'would deny')" = 2 ]
expect its_check_fails_for_that fails $bulkhead status --check
configure enforce audit
reload
expect an_audited_guard_denies_nothing cat $guarded/eicar
expect says_that_it_is_the_guard becomes 1 told '"audited":"guard"'
configure enforce enforce
reload
expect enforced_it_denies_at_once refused $guarded/eicar
expect says_so becomes 1 told '"event":"Denied"'

# Guards that come, go and change, while a file that one of them covers is opened again and again.
beside=/tmp/beside
mkdir -p $guarded/inner $beside
make_infected $guarded/inner/eicar
make_infected $beside/eicar
guards() { # TOML_OF_EACH...
  printf '[service]\nattachment = "module"\n[[driver]]\nname = "scanner"\ncache = 64\n' \
    >/tmp/bulkhead.toml
  for guard in "$@"; do printf '[[guard]]\nfolder = %s\n' "$guard" >>/tmp/bulkhead.toml; done
}
guards "'$guarded'" "'$guarded/inner'" "'$beside'"
expect guards_more reload
expect refuses_there_too refused $beside/eicar
rm -f /tmp/opened /tmp/enough
while [ ! -e /tmp/enough ]; do
  cat $guarded/inner/eicar >/dev/null 2>&1 && echo opened >>/tmp/opened
done &
opener=$!
guards "'$guarded'"
expect takes_guards_away reload
expect a_guard_that_goes_is_gone cat $beside/eicar
expect an_inner_one_leaves_the_outer refused $guarded/inner/eicar
guards "'$guarded/inner'
deadline = '2s'"
expect changes_guards reload
expect an_outer_one_leaves_the_inner refused $guarded/inner/eicar
expect the_outer_is_gone cat $guarded/eicar
guards "'$beside'" "'$guarded/inner'
only = { extensions = ['of-more-bytes-than-there-are'] }"
expect one_that_fails_refuses_all fails reload
expect the_others_do_not_come cat $beside/eicar
expect what_was_there_stays refused $guarded/inner/eicar
guards "'$guarded/inner'
deadline = '2s'"
die
serve
expect what_went_does_not_come_back cat $guarded/eicar
expect what_stayed_does refused $guarded/inner/eicar
die
guards "'$beside'" "'$guarded/inner'"
serve
expect other_guards_of_the_next_service_are_set refused $beside/eicar
touch /tmp/enough
wait $opener
expect what_is_guarded_all_the_time_is_refused_all_the_time [ ! -e /tmp/opened ]
expect it_ends_in_order stop
rm -r $guarded/inner $beside
expect ejects_after_the_audit $bulkhead eject --unload

# The same through the ABI, and operations that `bulkhead run` never makes.
insmod /modules/bulkhead.ko
run_gtest what_is_left 120 "$BULKHEAD_BUILD/bin/module_left_check"

# A user without privileges makes files over which the driver falls, one after the other.
insmod /modules/bulkhead.ko
chmod 755 $guarded
for i in 1 2 3 4 5 6 7 8; do
  echo x >$guarded/crash-$i
  chown 65534 $guarded/crash-$i
done
echo x >$guarded/deny-it
start --driver faulty
expect the_driver_answers cat $guarded/eicar
expect refuses_what_it_falls_over \
  su -s /bin/sh nobody -c "for i in 1 2 3 4 5 6 7 8; do ! cat $guarded/crash-\$i || exit 1; done"
expect others_are_served cat $guarded/eicar
expect the_user_is_served_what_is_roots su -s /bin/sh nobody -c "cat $guarded/eicar"
expect the_driver_is_asked refused $guarded/deny-it
expect three_files_cost_six_hosts becomes 6 count restarts
expect says_whose_calls_are_quarantined grep -q 'user 65534 opens of the files of user 65534' /tmp/run.out
stop
rm $guarded/crash-* $guarded/deny-it
expect ejects_after_that $bulkhead eject --unload

# And during service, with a driver that does not answer.
insmod /modules/bulkhead.ko
echo clean >$guarded/hang-up
start --driver faulty --deadline 60s
wait_for_a_host $guarded/hang-up
expect unloads_at_once quickly $bulkhead eject --unload
expect lets_go_who_waited_for_a_hung_driver quickly allowed
expect its_supervisor_is_gone fails wait $supervisor
expect opens_without_it cat $guarded/eicar
! loaded || result failed gone "still loaded"
finish
