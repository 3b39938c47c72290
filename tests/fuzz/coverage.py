#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the corpora in the tree take every branch of the code that validates a peer's bytes.

Usage: coverage.py SOURCES BUILD     (the project's folder; a build of the preset coverage)

Runs each target on tests/fuzz/corpus/TARGET, once. A condition has two branches, taken and not
taken, and each operand of && and || is a condition. Exit code: 0 when every branch of each
validator was taken by its own target's corpus, 1 when not, 77 when llvm-cov is missing.
"""
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

# file: the target with the corpus that must cover it, and its validating functions (None: all).
VALIDATORS = {
    "shim/core/reply.c": ("fuzz_reply", None),
    "ipc/abi/callbacks.h": ("fuzz_reply", "bh_callback_kind"),
    "ipc/channel_header.cc": ("fuzz_header", None),
    "ipc/abi/channel.h": ("fuzz_header", "bh_geometry_valid"),
    "ipc/control/envelope.cc": ("fuzz_control", "VerifyEnvelope"),
    "ipc/control/fields.cc": ("fuzz_control", "Read[A-Za-z]+"),
    "ipc/control/host_protocol.cc": ("fuzz_control", "Read[A-Za-z]+"),
    "ipc/control/operator_protocol.cc": ("fuzz_control", "Read[A-Za-z]+"),
    "ipc/control/shim_protocol.cc": ("fuzz_control", "Read[A-Za-z]+"),
    "ipc/abi/policy.h": ("fuzz_control", "bh_action_known|bh_rule_valid|bh_mode_known"),
    "ipc/abi/events.h": ("fuzz_control", "bh_start_known"),
    "host/supervisor/manifest.cc":
        ("fuzz_manifest", "ParseManifest|Reader|Read[A-Z][a-z]+|GoodName|GoodPath"),
    "ipc/notification_reader.cc":
        ("fuzz_notification", "EntriesOf|Map|Attach|Copy|IsLeftBehind|Read"),
    "ipc/notification_view_unsafe.h": ("fuzz_notification", None),
    "ipc/abi/notification.h": ("fuzz_notification", "bh_notification_entries_valid"),
    "shim/core/notify.c": ("fuzz_notification", "accept_position|room"),
}

# Branches that no input can reach: file, the line's text, which way, and why. The line must exist
# and the branch must not be taken.
UNREACHABLE = [
    ("ipc/notification_reader.cc", "if (!view_.IsPublished(next_) && !IsLeftBehind() && "
     "!stop_.load(std::memory_order_relaxed)) {", False,
     "the second check of two with nothing in between: tests/faults and shim/embedded run it "
     "beside a shim that writes"),
]

LLVM = "14"  # clang's of the preset

Branch = collections.namedtuple("Branch", "line column taken")


def run(*command, **keywords):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, **keywords).stdout


def replay(sources, build, target, folder):
    """llvm-cov's counts for each function after one run over the corpus."""
    program = os.path.join(build, "bin/fuzz", target)
    corpus = os.path.join(sources, "tests/fuzz/corpus", target)
    files = [os.path.join(corpus, name) for name in sorted(os.listdir(corpus))]
    raw, profile = (os.path.join(folder, target + end) for end in (".raw", ".profile"))
    run(program, "-artifact_prefix=" + folder + "/", *files, env={**os.environ,
                                                                  "LLVM_PROFILE_FILE": raw})
    run("llvm-profdata-" + LLVM, "merge", "-o", profile, raw)
    export = run("llvm-cov-" + LLVM, "export", "-instr-profile=" + profile, program)
    functions = json.loads(export)["data"][0]["functions"]
    for function in functions:  # ccache's paths are relative to the build
        function["filenames"] = [os.path.realpath(os.path.join(build, name))
                                 for name in function["filenames"]]
    return len(files), functions


def is_of(function, names):
    """Whether a function is one of `names`. Mangled names contain each name after its length; static
    C functions have their file before the name."""
    parts = [function.split(":")[-1]]
    for number in re.finditer(r"(?=(\d+))(?:\d)", function):
        end = number.end(1)
        parts.append(function[end:end + int(number.group(1))])
    return any(re.fullmatch(names, part) for part in parts)


def branches_of(functions, path, names):
    """Branch: how often it was taken, over all functions and instances of templates."""
    seen = collections.Counter()
    for function in functions:
        if names and not is_of(function["name"], names):
            continue
        for line, column, _, _, taken, not_taken, file, _, _ in function["branches"]:
            if function["filenames"][file] == path:
                seen[Branch(line, column, True)] += taken
                seen[Branch(line, column, False)] += not_taken
    return seen


def check(sources, file, names, functions):
    """Prints the file's line of the table; returns its errors."""
    path = os.path.join(sources, file)
    seen = branches_of(functions, path, names)
    with open(path, encoding="utf-8") as source:
        text = [line.strip() for line in source]
    excused = {(line, taken) for name, line, taken, _ in UNREACHABLE if name == file}
    wrong, used = [], []
    for branch, times in sorted(seen.items()):
        place = (text[branch.line - 1], branch.taken)
        if place in excused:
            used.append(place)
            if times:
                wrong.append(f"{file}:{branch.line}: is listed as unreachable, and was taken")
        elif not times:
            wrong.append(f"{file}:{branch.line}:{branch.column}: never "
                         f"{'true' if branch.taken else 'false'}: {place[0]}")
    wrong += [f"{file}: is listed as unreachable, and does not exist: {line}"
              for line, _ in excused - set(used)]
    if not seen:
        wrong.append(f"{file}: no branch of it is in the program")
    covered = sum(1 for times in seen.values() if times)
    print(f"{file:34} {covered:4} / {len(seen) - len(used):<4}"
          f"{f' and {len(used)} unreachable' if used else ''}")
    return wrong


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sources, build = (os.path.realpath(path) for path in sys.argv[1:])
    for program in ("llvm-cov-", "llvm-profdata-"):
        if not shutil.which(program + LLVM):
            print(f"SKIP {program + LLVM} is not installed (Debian: llvm-{LLVM})")
            sys.exit(77)
    wrong = []
    with tempfile.TemporaryDirectory(prefix="bh-coverage.") as folder:
        for target in sorted({target for target, _ in VALIDATORS.values()}):
            count, functions = replay(sources, build, target, folder)
            print(f"== {target}: {count} inputs; branches taken / all")
            for file, (its_target, names) in VALIDATORS.items():
                if its_target == target:
                    wrong += check(sources, file, names, functions)
    for line in wrong:
        print("FAILED " + line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
