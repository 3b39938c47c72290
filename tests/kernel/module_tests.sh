# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.module: our own module between the guest's kernel and drivers in user
# mode. BULKHEAD_BUILD is the build folder.
. /guest/lib
bulkhead=$BULKHEAD_BUILD/bin/bulkhead
guarded=/tmp/guarded
mkdir $guarded

# expect NAME COMMAND...: passed when the command succeeds.
expect() {
  local name=$1
  shift
  if "$@"; then result passed "$name"; else result failed "$name" "$*"; fi
}
refused() { ! cat "$1" >/dev/null 2>&1; }
loaded() { grep -q '^bulkhead ' /proc/modules; }

# Starts `bulkhead run` with the module; returns when the folder is guarded.
start() {
  rm -f /tmp/ready
  mkfifo /tmp/ready
  $bulkhead run --attach module --guard $guarded --ready-fd 3 "$@" >/tmp/run.out 2>&1 3>/tmp/ready &
  supervisor=$!
  read -r _ </tmp/ready || { result failed start "$(cat /tmp/run.out)"; exit 1; }
}
stop() { kill -INT $supervisor && wait $supervisor; }
# count FIELD: of the one driver, from `bulkhead status`.
count() { $bulkhead status | sed -n "s/.* \([0-9]*\) $1.*/\1/p"; }
host() { $bulkhead status | sed -n 's/.* pid \([0-9]*\), content.*/\1/p'; }

echo clean >$guarded/clean
echo elsewhere >/tmp/elsewhere
printf '#!/bin/busybox sh\n' >$guarded/script
chmod +x $guarded/script

expect load insmod /modules/bulkhead.ko
expect doctor sh -c "$bulkhead doctor | grep -q '^attachment module  *works'"

# Who is asked about what.
start --driver null
expect opens_a_file cat $guarded/clean
expect executes_a_file $guarded/script
calls=$(count calls)
cat /tmp/elsewhere
ls $guarded >/dev/null
expect asks_about_guarded_files_only [ "$(count calls)" = "$calls" ]
expect counts_calls [ "$calls" -ge 3 ]
expect one_supervisor_at_a_time sh -c "! $bulkhead run --attach module --driver null --guard /run"
expect ends_in_order stop
calls=

# The verdict reaches the caller, and follows the file.
# The EICAR test string, put together here so that no file of the tree holds it.
printf '%s%s' 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR' '-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*' >$guarded/eicar
chmod +x $guarded/eicar
start --driver scanner
expect refuses_the_infected_file refused $guarded/eicar
expect refuses_to_execute_it sh -c "! $guarded/eicar 2>/dev/null"
expect opens_the_clean_file cat $guarded/clean
expect refuses_it_again refused $guarded/eicar
echo clean >/tmp/clean
mv /tmp/clean $guarded/eicar
expect a_verdict_is_about_the_file cat $guarded/eicar
expect ends_after_denials stop

# What was remembered about a file goes when the file changes.
mkdir /tmp/outside
start --driver first-byte --cache 4096
cat $guarded/clean >/dev/null
asked=$(count answered)
for i in 1 2 3 4 5; do cat $guarded/clean >/dev/null; done
expect remembers [ "$(count answered)" = "$asked" ]
export CHECK_GUARDED=$guarded CHECK_OUTSIDE=/tmp/outside
run_gtest content_change 240 "$BULKHEAD_BUILD/bin/content_change_check"
expect remembers_in_between [ "$(count cached)" -gt 3000 ]
expect ends_after_changes stop

# Its host dies again and again; the opens go on.
start --driver null
opens=0 tries=0 kills=0
# Five in ten seconds would be a crash loop.
while [ $kills -lt 4 ]; do
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
kill -KILL $supervisor
wait $supervisor
expect opens_go_on_when_the_supervisor_dies cat $guarded/clean

expect unload rmmod bulkhead
expect opens_without_the_module cat $guarded/clean
! loaded || result failed gone "still loaded"
