#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks a model of the channel with Spin: it must hold, and each mutation of it must be caught.

Usage: run_model.py MODEL [--long]     (waiting, slots, ring; README.md describes them)

With --long also the sizes that are too large for the suite. Each run is an exhaustive search of all
interleavings. Exit code: 0 when every result is the expected one, 1 when not, 77 when spin or a C
compiler is missing. Leaves no files.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS_MAX = 400  # of one search
MEMORY_MIB_MAX = 1900
LONG_SECONDS_MAX = 1800
LONG_MEMORY_MIB_MAX = 12000

# The sizes at which the model must hold.
GOOD = {
    "waiting": [
        "CALLERS=1 WORKERS=1 CALLS=2 INTERRUPTS=1 WITH_CRASH WITH_STOP",
        "CALLERS=1 WORKERS=2 CALLS=2 INTERRUPTS=1 WITH_CRASH",
        "CALLERS=1 WORKERS=2 WITH_STOP",
        "CALLERS=2 WORKERS=1 INTERRUPTS=1 WITH_CRASH",
        "CALLERS=2 WORKERS=2",
    ],
    # PENDING and WITH_DRAIN only add steps: these searches contain those without them, and those with
    # fewer workers.
    "slots": [f"{size} PENDING WITH_DRAIN{strict}" for size in (
        "CALLERS=1 SLOTS=1 WORKERS=2 GENERATIONS=3",
        "CALLERS=1 SLOTS=2 WORKERS=2 GENERATIONS=3",
        "CALLERS=1 SLOTS=3 WORKERS=2 GENERATIONS=3",
        "CALLERS=2 SLOTS=1 WORKERS=2 GENERATIONS=2",
        "CALLERS=2 SLOTS=2 WORKERS=2 GENERATIONS=2",
        "CALLERS=2 SLOTS=3 WORKERS=2 GENERATIONS=2",
    ) for strict in ("", " STRICT")],
    "ring": [
        "ENTRIES=2 HAPPEN=5 LIVES=3",
        "ENTRIES=3 HAPPEN=5 LIVES=2",
        "ENTRIES=2 HAPPEN=5 LIVES=2 FORGED_WORDS",
        "ENTRIES=3 BATCH=2 HAPPEN=5 LIVES=2",
        "ENTRIES=3 BATCH=2 HAPPEN=5 LIVES=2 FORGED_WORDS",
    ],
}

# More sizes at which it must hold; these take minutes and gigabytes.
GOOD_LONG = {
    "slots": [
        "CALLERS=2 SLOTS=1 WORKERS=2 GENERATIONS=3 PENDING WITH_DRAIN",
        "CALLERS=2 SLOTS=2 WORKERS=2 GENERATIONS=3 PENDING WITH_DRAIN",
        "CALLERS=2 SLOTS=3 WORKERS=2 GENERATIONS=3 PENDING WITH_DRAIN",
        "CALLERS=3 SLOTS=1 WORKERS=1 GENERATIONS=2",
    ],
}

# Mutations that must be caught: mutation, size, and the assertion that must catch it.
MUTATIONS = {
    "waiting": [
        ("NO_FENCE_IN_ISSUE", "CALLERS=1 WORKERS=1", "lost_wake_up"),
        ("NO_FENCE_IN_ANNOUNCEMENT", "CALLERS=1 WORKERS=1", "lost_wake_up"),
        ("WORKER_LOOKS_ONCE", "CALLERS=1 WORKERS=1", "lost_wake_up"),
        ("NO_WAKE_ANOTHER", "CALLERS=1 WORKERS=2", "lost_wake_up"),
        ("NO_PASS_ON", "CALLERS=2 WORKERS=2", "lost_wake_up"),
        ("NO_PASS_ON_AFTER_SLEEP", "CALLERS=2 WORKERS=2", "lost_wake_up"),
        ("PLAIN_STORE_AFTER_SLEEP", "CALLERS=2 WORKERS=2 INTERRUPTS=1", "lost_wake_up"),
        ("NO_FENCE_IN_REPLY", "CALLERS=1 WORKERS=1", "lost_answer"),
        ("NO_FENCE_BEFORE_SLEEP", "CALLERS=1 WORKERS=1", "lost_answer"),
        ("CALLER_LOOKS_ONCE", "CALLERS=1 WORKERS=1", "lost_answer"),
        ("BELL_READ_LAST", "CALLERS=1 WORKERS=1", "lost_answer"),
        ("NO_BELLS", "CALLERS=1 WORKERS=1 WITH_CRASH", "lost_end"),
        ("NO_FENCE_IN_STOP", "CALLERS=1 WORKERS=1 WITH_STOP", "lost_stop"),
    ],
    "slots": [
        ("ENDED_BEFORE_FATES", "CALLERS=1 WORKERS=1 STRICT", "begun_twice"),
        ("EPOCH_READ_LAST", "CALLERS=1 WORKERS=1 STRICT", "lost_host"),
        ("ANSWER_LOOKED_FOR_ONCE", "CALLERS=1 WORKERS=1 STRICT", "begun_twice"),
        ("GENERATION_IGNORED", "CALLERS=1 WORKERS=1 STRICT", "begun_twice"),
        ("CLAIM_READ_LAST", "CALLERS=2 WORKERS=2 GENERATIONS=1 STRICT", "begun_twice"),
        ("DEADLINE_FREES_SLOT", "CALLERS=2 WORKERS=2 GENERATIONS=1", "begun_twice"),
        ("ROOM_ANNOUNCED_LAST", "CALLERS=2 WORKERS=1 GENERATIONS=1", "lost_room"),
        ("ABANDON_WAKES_NO_WAITER", "CALLERS=2 WORKERS=1 GENERATIONS=1", "lost_room"),
        ("BEGUN_STORED_LAST", "CALLERS=1 WORKERS=1 STRICT", "begun_twice"),
        ("BEGUN_BY_WORKER", "CALLERS=1 WORKERS=1 STRICT PENDING", "begun_twice"),
        ("COMPLETED_AGAIN", "CALLERS=2 WORKERS=1 GENERATIONS=1 PENDING", "changed_in_hand"),
        ("LEAVES_WITH_KEPT", "CALLERS=1 WORKERS=1 STRICT PENDING WITH_DRAIN", "left_begun"),
        ("DRAIN_BLAMES_NONE", "CALLERS=1 WORKERS=1 STRICT PENDING WITH_DRAIN", "begun_twice"),
    ],
    "ring": [
        ("PUBLISHED_BEFORE_COUNTED", "LIVES=2", "told_twice"),
        ("TELLS_FIRST", "LIVES=2", "told_twice"),
        ("NOT_TOLD", "LIVES=2", "told_twice"),
        ("RELEASES_FIRST", "LIVES=2", "told_twice"),
        ("NO_FENCE_IN_NOTIFY", "LIVES=1", "lost_wake_up"),
        ("NO_FENCE_BEFORE_SLEEP", "LIVES=1", "lost_wake_up"),
        ("LOOKS_ONCE", "LIVES=1", "lost_wake_up"),
        ("ACCEPTS_UNPUBLISHED", "ENTRIES=3 BATCH=2 HAPPEN=5 LIVES=2 FORGED_WORDS", "read_ahead"),
        ("NEVER_LOOKS_AHEAD", "LIVES=2 HAPPEN=5 FORGED_WORDS", "stands_still"),
    ],
}


class Failed(Exception):
    pass


def run(command, folder, seconds_max=SECONDS_MAX):
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, timeout=seconds_max, check=False)
    return result.returncode, result.stdout


def search(model, defines, compiler, is_long):
    """The violated assertion ("" if none), the number of states, and the MiB that they took."""
    # The compiler takes longer than most searches.
    optimisation = "-O2" if is_long else "-O1" if "CALLERS=2" in defines else "-O0"
    with tempfile.TemporaryDirectory(prefix="bh-model.") as folder:
        source = os.path.join(HERE, model + ".pml")
        for command in (["spin", *("-D" + d for d in defines), "-a", source],
                        [compiler, optimisation, "-w", "-DSAFETY",
                         f"-DMEMLIM={LONG_MEMORY_MIB_MAX if is_long else MEMORY_MIB_MAX}",
                         *(["-DCOLLAPSE"] if is_long else []), "-o", "pan", "pan.c"]):
            code, output = run(command, folder)
            if code != 0:
                raise Failed(f"{' '.join(command)}\n{output}")
        _, output = run(["./pan", "-m100000", "-w26" if is_long else "-w22"], folder,
                        LONG_SECONDS_MAX if is_long else SECONDS_MAX)
    errors = re.search(r"errors: (\d+)", output)
    memory = re.search(r"([\d.]+)\s+total actual memory usage", output)
    mib = round(float(memory.group(1))) if memory else 0
    states = re.search(r"(\d+) states, stored", output)
    if not errors or not states or "search depth too small" in output:
        raise Failed(output)
    found = re.search(r"pan:\d+: (.*) \(at depth", output)
    if errors.group(1) == "0":
        # An error ends the search early, and so does a full memory.
        if "not completed" in output:
            raise Failed(output)
        return "", int(states.group(1)), mib
    check = re.search(r"assertion violated\s*!\((\w+)\)", found.group(1)) if found else None
    return (check.group(1) if check else found.group(1) if found else output), \
        int(states.group(1)), mib


def cpu_seconds():
    """CPU time of compiler and search: other work on the machine does not change it."""
    return os.times().children_user + os.times().children_system


def check(model, size, mutation, expected, compiler, is_long=False):
    start = cpu_seconds()
    try:
        violated, states, mib = search(model, size.split() + ([mutation] if mutation else []), compiler,
                                  is_long)
    except (Failed, subprocess.TimeoutExpired) as error:
        violated, states, mib = f"no result: {error}", 0, 0
    name = mutation or "the model"
    said = f"{model}: {name} ({size}): {violated or 'holds'}, {states} states, "
    said += f"{mib} MiB, {cpu_seconds() - start:.0f} s"
    print(said if violated == expected else f"FAILED {said}; expected: {expected or 'holds'}",
          flush=True)
    return violated == expected


def main():
    is_long = sys.argv[2:] == ["--long"]
    if len(sys.argv) != 2 + is_long or sys.argv[1] not in GOOD:
        sys.exit(__doc__)
    compiler = os.environ.get("CC") or "cc"
    for program, package in (("spin", "spin"), (compiler, "build-essential")):
        if not shutil.which(program):
            print(f"SKIP {program} is not installed (Debian: {package})")
            sys.exit(77)
    model = sys.argv[1]
    as_expected = [check(model, size, "", "", compiler) for size in GOOD[model]]
    as_expected += [check(model, size, mutation, expected, compiler)
                    for mutation, size, expected in MUTATIONS[model]]
    if is_long:
        as_expected += [check(model, size, "", "", compiler, is_long=True)
                        for size in GOOD_LONG.get(model, [])]
    sys.exit(0 if all(as_expected) else 1)


if __name__ == "__main__":
    main()
