#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Guests that fail in every way: run_guest.py must report each, or its passes mean nothing.

Usage: run_guest_test.py CACHE   (CACHE: the folder of kernels, as for run_guest.py)
"""
import hashlib
import os
import subprocess
import sys
import tempfile
import unittest

from kernel_image import Unavailable
from results import Results, kernel_trouble
from run_guest import SKIPPED, prepare

RUN_GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_guest.py")


def run_guest(script, *arguments):
    with tempfile.NamedTemporaryFile("w", prefix="bulkhead-guest-") as file:
        file.write(". /guest/lib\n" + script)
        file.flush()
        command = [RUN_GUEST, "--guest-script", file.name, "--cache", CACHE, *arguments]
        return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=1200)


class GuestTest(unittest.TestCase):
    def test_brings_results_and_files_back(self):
        with tempfile.TemporaryDirectory(prefix="bulkhead-guest-") as folder:
            brought = os.path.join(folder, "random")
            run = run_guest('run_test good 10 true\n'
                            'result skipped other "no\tsuch\ndevice"\n'
                            '[ "$WORDS" = "two  words" ] && result passed environment\n'
                            'head -c 100000 /dev/urandom >/tmp/random\n'
                            'bring random /tmp/random\n'
                            'result passed sum "$(md5sum </tmp/random)"\n',
                            "--env", "WORDS=two  words", "--bring", f"random={brought}")
            self.assertEqual(run.returncode, 0, run.stdout)
            self.assertIn("passed good\n", run.stdout)
            self.assertRegex(run.stdout, r"slowest steps, s: .*\bsum \d")
            self.assertIn("passed environment\n", run.stdout)
            self.assertIn("SKIPPED other: no such device\n", run.stdout)
            with open(brought, "rb") as file:
                self.assertIn(f"passed sum: {hashlib.md5(file.read()).hexdigest()}", run.stdout)

    def test_tells_of_tests_that_fail(self):
        run = run_guest('run_test wrong 10 sh -c "echo said on the way; exit 3"\n'
                        'run_test slow 1 sleep 60\n'
                        'run_test good 10 true\n', "--bring", "report=/nonexistent/report")
        self.assertEqual(run.returncode, 1, run.stdout)
        self.assertIn("FAILED wrong: code 3", run.stdout)
        self.assertIn("FAILED slow: killed", run.stdout)
        self.assertIn("passed good\n", run.stdout)
        self.assertIn("brought no file 'report'", run.stdout)
        self.assertIn("said on the way", run.stdout)

    def test_a_kernel_that_dies_is_a_failure(self):
        run = run_guest('result passed before\necho c >/proc/sysrq-trigger\n')
        self.assertEqual(run.returncode, 1, run.stdout)
        self.assertIn("passed before\n", run.stdout)
        self.assertIn("did not reach its end", run.stdout)
        self.assertRegex(run.stdout, "its kernel says: .*Kernel panic - not syncing: sysrq")

    def test_a_guest_that_hangs_is_a_failure(self):
        run = run_guest("sleep 1000\n", "--timeout", "15")
        self.assertEqual(run.returncode, 1, run.stdout)
        self.assertIn("did not end within 15 s", run.stdout)


class ResultsTest(unittest.TestCase):
    def test_a_run_counts_when_it_ends_well(self):
        results = Results("booted\t1.50\npassed\ta\t\t2.00\nfile\tf\tYWI=\nend\t0\n")
        self.assertEqual(results.errors, [])
        self.assertEqual(results.booted_s, 1.5)
        self.assertEqual(results.outcomes, [("passed", "a", "", 0.5)])
        self.assertEqual(results.files, {"f": b"ab"})

    def test_everything_else_is_an_error(self):
        for text in ("", "passed\ta\t\t1.00\n", "end\t1\n", "end\t0", "end\t\n", "passed\ta\t\nend\t0\n",
                     "passed\ta\t\tsoon\nend\t0\n", "cheered\ta\t\t1.00\nend\t0\n",
                     "file\tf\tYW=I\nend\t0\n", "end\t0\npassed\ta\t\t1.00\n", "end\t0\nend\t0\n"):
            self.assertTrue(Results(text).errors, repr(text))

    def test_knows_trouble_of_the_kernel_from_that_of_a_process(self):
        trouble = ["BUG: unable to handle page fault for address: ffffffffc0000000",
                   "WARNING: CPU: 0 PID: 1 at kernel/locking/mutex.c:1 mutex_lock+0x1/0x2",
                   "INFO: task cat:99 blocked for more than 20 seconds.",
                   "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
                   "BUG: KFENCE: use-after-free read in bh_call_end+0x1/0x2 [bulkhead]",
                   "BUG: KASAN: vmalloc-out-of-bounds in bh_call_end+0x1/0x2 [bulkhead]",
                   "BUG: sleeping function called from invalid context at mm/slab.h:1",
                   "BUG bulkhead_path (Tainted: G O): Poison overwritten",
                   "kernel BUG at mm/slub.c:1!",
                   "UBSAN: shift-out-of-bounds in shim/core/slots.c:1:2",
                   "ODEBUG: free active (active state 0) object type: timer_list hint: 0x0",
                   "WARNING: possible circular locking dependency detected",
                   "WARNING: suspicious RCU usage",
                   "INFO: lockdep is turned off.",
                   "INFO: trying to register non-static key.",
                   "kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
                   "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                   "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-... }",
                   "rcu: INFO: rcu_preempt self-detected stall on CPU"]
        healthy = ["traps: faulty[77] general protection fault ip:55d0 sp:7ffc error:0 in faulty",
                   "faulty[77]: segfault at 0 ip 000055d0 sp 00007ffc error 4 in faulty",
                   "bulkhead: loading out-of-tree module taints kernel.",
                   "kasan: KernelAddressSanitizer initialized",
                   "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
                   "rcu: \tRCU lockdep checking is enabled.",
                   "kmemleak: Kernel memory leak detector initialized (mem pool available: 1)",
                   "Kernel command line: console=ttyS0 oops=panic"]
        log = "".join(f"[    1.000000] {line}\r\n" for line in trouble + healthy)
        self.assertEqual([line.partition("] ")[2] for line in kernel_trouble(log)], trouble)


if __name__ == "__main__":
    CACHE = os.path.abspath(sys.argv[1])
    try:
        prepare(CACHE)
    except Unavailable as reason:
        print(f"SKIPPED: {reason}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1], verbosity=2)
