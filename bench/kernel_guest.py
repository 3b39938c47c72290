#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Runs a program in a guest with Debian's kernel and our module, for machines that take none.

It is build/release/bin/bench-kernel-guest and storm-fairness-guest. Exit codes: 0 all figures
hold, 1 one is missed or the guest failed, 2 wrong usage, 77 this machine cannot run a guest.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
RUN_GUEST = os.path.join(HERE, "../tests/kernel/run_guest.py")
BUILD = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))
MODULE = os.path.join(BUILD, "shim/module/bulkhead.ko")
SKIPPED = 77

# By the name that this was called by.
PROGRAMS = {
    "bench-kernel-guest": {
        "program": "bin/bench-kernel",
        "about": "What open(2) and close(2) cost under the kernel module, beside fanotify. Runs in "
                 "a guest; where the module is loaded, bench-kernel does without one.",
        "arguments": [],
        "files": [],
        "guest": [],
        "counts": "--rounds",
    },
    "storm-fairness-guest": {
        "program": "bin/storm-fairness",
        "about": "What the opens of one user with 1,000 threads do to another's under the kernel "
                 "module. Runs in a guest; where the module is loaded, storm-fairness --attach "
                 "module does without one.",
        "arguments": ["--attach", "module"],
        "files": ["bin/storm-service"],
        "guest": ["--memory-mib", "2048"],
        "counts": "--calls",
    },
}
NAME = os.path.basename(sys.argv[0])
ROW = PROGRAMS[NAME]


def parse_arguments():
    parser = argparse.ArgumentParser(prog=NAME, description=ROW["about"])
    parser.add_argument("--short", action="store_true", help="the form for the test suite")
    parser.add_argument("--unlimited", action="store_true",
                        help="only show the ratios: for a machine that is busy with other things")
    parser.add_argument(ROW["counts"], type=int, metavar="N", dest="count",
                        help="rounds of 1000 opens of each kind, or opens that are measured")
    parser.add_argument("--idle-poll", action="store_true",
                        help="idle CPUs of the guest don't halt (docs/kernel-module.md says what "
                             "that changes)")
    parser.add_argument("--json", metavar="FILE", help="write the report to this file")
    parser.add_argument("--timeout", type=int, default=900, metavar="SECONDS")
    return parser.parse_args()


def guest_command(options, scratch):
    arguments = ROW["arguments"] + (["--short"] if options.short else [])
    arguments += ["--unlimited"] if options.unlimited else []
    arguments += [ROW["counts"], str(options.count)] if options.count is not None else []
    command = [RUN_GUEST, "--guest-script", os.path.join(HERE, "kernel_guest.sh"),
               "--env", f"BULKHEAD_BUILD={BUILD}", "--env", f"PROGRAM={ROW['program']}",
               "--env", "ARGUMENTS=" + " ".join(arguments),
               "--module", MODULE, "--timeout", str(options.timeout)] + ROW["guest"]
    command += ["--kernel-argument", "idle=poll"] if options.idle_poll else []
    for name in (ROW["program"], "bin/bulkhead", "bin/bulkhead-host", "drivers", *ROW["files"]):
        command += ["--file", os.path.join(BUILD, name)]
    for name in ("table", "report"):
        command += ["--bring", f"{name}={os.path.join(scratch, name)}"]
    return command


def main():
    options = parse_arguments()
    if not os.path.exists(MODULE):
        print(f"SKIP: no {MODULE}: it is built where kernel headers are installed (./dev setup)")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench.") as scratch:
        guest = subprocess.run(guest_command(options, scratch), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True, check=False)
        if guest.returncode != 0:
            print(guest.stdout, end="")
            return guest.returncode
        print(guest.stdout.splitlines()[0])  # which kernel
        with open(os.path.join(scratch, "table"), encoding="utf-8") as table:
            print(table.read(), end="")
        if options.json:
            shutil.copyfile(os.path.join(scratch, "report"), options.json)
        with open(os.path.join(scratch, "report"), encoding="utf-8") as report:
            figures = json.load(report)["figures"]
    return 0 if all(figure["pass"] for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
