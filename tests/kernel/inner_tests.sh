# SPDX-License-Identifier: Apache-2.0
# The guest script of kernel.guest: programs of the preset release that test more on Debian's own
# kernel and with all of root's rights. BULKHEAD_BUILD is the build folder.
. /guest/lib
tests=$BULKHEAD_BUILD/bin/tests

# Two CPUs that run in parallel, and a scheduler that preempts: the core's waiting depends on both.
run_gtest core_wait_test 60 "$tests/core_wait_test"
run_gtest core_threads_test 60 "$tests/core_threads_test"
run_gtest sandbox_test 60 "$tests/sandbox_test"
run_gtest host_process_test 120 "$tests/host_process_test"
run_gtest fanotify_attachment_test 120 "$tests/fanotify_attachment_test"

run_test doctor 30 "$BULKHEAD_BUILD/bin/bulkhead" doctor
for attachment in embedded fanotify; do
  if grep -q "^attachment $attachment  *works$" /tmp/doctor.out; then
    result passed "doctor_$attachment"
  else
    result failed "doctor_$attachment" "$(grep -A 1 "^attachment $attachment" /tmp/doctor.out)"
  fi
done
