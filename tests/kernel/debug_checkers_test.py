#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Loads a module with one defect for each checker of the debug kernel: each must be reported.

Usage: debug_checkers_test.py DEBUG_KERNEL PLANTED_MODULE   (as for run_guest.py)
"""
import os
import subprocess
import sys
import tempfile
import unittest

from run_guest import SKIPPED

RUN_GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_guest.py")
SCRIPT = """
. /guest/lib
run_test load 60 insmod /modules/planted.ko
run_test unload 60 rmmod planted
ask_checkers
"""


class DebugCheckersTest(unittest.TestCase):
    def test_each_planted_defect_is_reported(self):
        self.assertEqual(RUN.returncode, 1, RUN.stdout)
        for report in (r"BUG: KASAN: use-after-free in planted_use_after_free",
                       r"BUG: KASAN: vmalloc-out-of-bounds in planted_vmalloc_overrun",
                       r"UBSAN: shift-out-of-bounds in .*planted",
                       r"BUG: sleeping function called from invalid context",
                       r"WARNING: suspicious RCU usage",
                       r"WARNING: possible circular locking dependency detected",
                       r"kmemleak: \d+ new suspected memory leaks"):
            with self.subTest(report):
                self.assertRegex(RUN.stdout, "FAILED .*: its kernel says: .*" + report)

    def test_a_guest_script_hears_of_leaks_and_of_locks(self):
        self.assertRegex(RUN.stdout, r"FAILED nothing_leaked: \d+ objects")
        self.assertIn("FAILED locks_were_watched:", RUN.stdout)

    def test_the_kernel_outlives_them(self):
        self.assertIn("passed load\n", RUN.stdout)
        self.assertIn("passed unload\n", RUN.stdout)


def run_guest():
    with tempfile.NamedTemporaryFile("w", prefix="bulkhead-guest-") as file:
        file.write(SCRIPT)
        file.flush()
        command = [RUN_GUEST, "--guest-script", file.name, "--debug-kernel", sys.argv[1],
                   "--module", sys.argv[2]]
        return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=1200)


if __name__ == "__main__":
    RUN = run_guest()
    if RUN.returncode == SKIPPED:
        print(RUN.stdout, end="")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1], verbosity=2)
