# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.guest: programs of the preset release that test more on Debian's own
# kernel and with all of root's rights. BULKHEAD_BUILD is the build folder.
. /guest/lib
tests=$BULKHEAD_BUILD/bin/tests

# Two CPUs that run in parallel, and a scheduler that preempts: the core's waiting depends on both.
run_gtest core_wait_test 60 "$tests/core_wait_test"
run_gtest core_threads_test 60 "$tests/core_threads_test"
run_gtest sandbox_test 60 "$tests/sandbox_test"
# Control groups of version 2, which the suite's own machine may not have.
run_gtest host_cgroup_test 60 "$tests/host_cgroup_test"
run_test sandbox_probes 600 "$BULKHEAD_BUILD/bin/sandbox-probes"
run_gtest host_process_test 200 "$tests/host_process_test"
run_gtest fanotify_attachment_test 120 "$tests/fanotify_attachment_test"

run_test doctor 30 "$BULKHEAD_BUILD/bin/bulkhead" doctor
for attachment in embedded fanotify; do
  if grep -q "^attachment $attachment  *works$" /tmp/doctor.out; then
    result passed "doctor_$attachment"
  else
    result failed "doctor_$attachment" "$(grep -A 1 "^attachment $attachment" /tmp/doctor.out)"
  fi
done

# A file over which the driver takes more memory than there is: the kernel kills its host. In a
# control group, so that it is that one.
guarded=/tmp/guarded
mkdir -p $guarded /sys/fs/cgroup
grep -q ' /sys/fs/cgroup cgroup2 ' /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/small
echo 200M >/sys/fs/cgroup/small/memory.max
mount -t tmpfs guarded $guarded
echo x >$guarded/memory-1
echo x >$guarded/clean
# starve ATTACHMENT
starve() {
  local wrong='' ready code
  mkfifo /tmp/ready
  sh -c "echo \$\$ >/sys/fs/cgroup/small/cgroup.procs
    exec $BULKHEAD_BUILD/bin/bulkhead run --driver faulty --guard $guarded --attachment $1 \
      --accept overlays --accept new-folders --ready-fd 3" >/tmp/starved.out 2>&1 3>/tmp/ready &
  supervisor=$!
  read -r ready </tmp/ready || wrong='it did not start'
  # A driver that has answered nothing yet convicts no file.
  cat $guarded/clean >/dev/null || wrong="${wrong:-other files are refused}"
  for round in 1 2 3 4 5 6; do
    ! cat $guarded/memory-1 2>/dev/null || wrong="open $round was allowed"
  done
  cat $guarded/clean >/dev/null || wrong="${wrong:-other files are refused}"
  $BULKHEAD_BUILD/bin/bulkhead status >/tmp/starved.status 2>&1
  kill -INT $supervisor
  wait $supervisor || wrong="${wrong:-it ended with $?}"
  kills=$(grep -c 'starved: ' /tmp/starved.out)
  [ "$kills" = 2 ] || wrong="${wrong:-$kills hosts were killed}"
  rm /tmp/ready
  if [ -z "$wrong" ]; then
    result passed "starved_$1"
  else
    cat /tmp/starved.out /tmp/starved.status
    result failed "starved_$1" "$wrong"
  fi
}
# The clock is set back and forth while calls flow and a host is replaced: what is bounded by time is
# bounded by a clock that nobody sets.
# set_clock ATTACHMENT
set_clock() {
  local wrong='' round today host said ready opener
  today=$(date +%s)
  printf '%s%s' 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR' '-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*' >$guarded/infected
  mkfifo /tmp/ready
  $BULKHEAD_BUILD/bin/bulkhead run --driver scanner --guard $guarded --attachment $1 --deadline 60s \
    --accept overlays --accept new-folders --ready-fd 3 >/tmp/clock.out 2>&1 3>/tmp/ready &
  supervisor=$!
  read -r ready </tmp/ready || wrong='it did not start'
  rm -f /tmp/clock.stop /tmp/clock.wrong
  while [ ! -e /tmp/clock.stop ]; do
    cat $guarded/clean >/dev/null 2>&1 || echo 'a clean file was refused' >>/tmp/clock.wrong
    ! cat $guarded/infected >/dev/null 2>&1 || echo 'an infected file was allowed' >>/tmp/clock.wrong
  done &
  opener=$!
  for round in 1 2 3 4 5; do
    date -s @$((today + round * 31536000)) >/dev/null || wrong='the clock can not be set'
    cat $guarded/clean >/dev/null || wrong="${wrong:-refused with a clock that is ahead}"
    if [ $round = 3 ]; then
      host=$($BULKHEAD_BUILD/bin/bulkhead status | sed -n 's/.*generation 1, pid \([0-9]*\),.*/\1/p')
      kill -KILL $host || wrong="${wrong:-no host}"
    fi
    date -s @$((today - round * 86400)) >/dev/null
    cat $guarded/clean >/dev/null || wrong="${wrong:-refused with a clock that is behind}"
    ! cat $guarded/infected 2>/dev/null || wrong="${wrong:-allowed with a clock that is behind}"
  done
  date -s @$today >/dev/null
  touch /tmp/clock.stop
  wait $opener
  [ ! -e /tmp/clock.wrong ] || wrong="${wrong:-$(head -1 /tmp/clock.wrong)}"
  said=$($BULKHEAD_BUILD/bin/bulkhead status 2>&1)
  # One host was killed, none missed its heartbeat, and no call was answered without one.
  case $said in *'serving, generation 2,'*) ;; *) wrong="${wrong:-other hosts were replaced}" ;; esac
  case $said in *' 0 by policy'*) ;; *) wrong="${wrong:-calls were answered by policy}" ;; esac
  kill -INT $supervisor
  wait $supervisor || wrong="${wrong:-it ended with $?}"
  rm /tmp/ready $guarded/infected
  if [ -z "$wrong" ]; then
    result passed "clock_$1"
  else
    cat /tmp/clock.out
    echo "$said"
    result failed "clock_$1" "$wrong"
  fi
}

starve fanotify
set_clock fanotify
insmod /modules/bulkhead.ko
starve module
set_clock module
rmmod bulkhead
