# SPDX-License-Identifier: Apache-2.0
"""Adds up a test run: how many passed, the time of each step, what took longest, what failed, what was
skipped and why, the totals as last line.

Usage: summary.py RESULTS_FOLDER CPUS PRESET...   (test.sh describes the folder; CPUS: its parallel jobs)
"""
import collections
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

# state is passed, failed or skipped; tail: the last lines of a failed test's output; steps: what took
# longest in a passed test that says so.
Outcome = collections.namedtuple("Outcome", "group name state detail tail seconds steps",
                                 defaults=((), 0, ""))
TAIL_LINES = 12
SLOWEST = 12  # how many tests are named with their time


def skip_reason(output):
    """GTEST_SKIP's message, or the text of a script's last line that begins with SKIP."""
    gtest = re.search(r"^\S+:\d+: Skipped\n(.*?)^\[  SKIPPED \]", output, re.DOTALL | re.MULTILINE)
    if gtest and gtest.group(1).strip():
        return " ".join(gtest.group(1).split())
    script = re.findall(r"^SKIP(?:PED)?\b[:\s]*(.+)$", output, re.MULTILINE)
    return script[-1].strip() if script else "gave no reason"


def failure_reason(output):
    """The most informative line: a sanitizer's summary, else a FAILED line of a script (or a guest's
    script), else the place of the first failed expectation."""
    found = (re.search(r"^SUMMARY: .*$|^\S+: runtime error: .*$", output, re.MULTILINE) or
             re.search(r"^FAILED .*$", output, re.MULTILINE) or
             re.search(r"^\S+:\d+: Failure$", output, re.MULTILINE))
    return found.group(0) if found else ""


def read_junit(preset, path):
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        seconds = float(case.get("time") or 0)
        output = case.findtext("system-out") or ""
        skipped = case.find("skipped")
        message = skipped.get("message", "") if skipped is not None else ""
        if status == "run":
            steps = re.search(r"^slowest steps, s: (.*)$", output, re.MULTILINE)  # of a guest
            yield Outcome(preset, name, "passed", "", (), seconds, steps.group(1) if steps else "")
        elif status == "disabled":
            yield Outcome(preset, name, "skipped", "switched off in the source (DISABLED)")
        elif message.startswith("SKIP_"):
            yield Outcome(preset, name, "skipped", skip_reason(output))
        else:  # Failed, or could not even be started: ctest calls that "notrun" too.
            failure = case.find("failure")
            detail = failure.get("message", "") if failure is not None else message
            ended = f"failed, timed out or died after {seconds:.0f} s"
            yield Outcome(preset, name, "failed", failure_reason(output) or detail or ended,
                          output.splitlines()[-TAIL_LINES:], seconds)


def read_tsv(path):
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file]


def read_outcomes(folder, presets):
    checks = read_tsv(os.path.join(folder, "checks.tsv"))
    outcomes = [Outcome("checks", name, state, detail) for state, name, detail in checks]
    ctest_codes = dict(read_tsv(os.path.join(folder, "ctest-failed.tsv")))
    for preset in presets:
        tests = []
        for report in (preset, preset + "-beside"):
            path = os.path.join(folder, report + ".xml")
            try:
                if os.path.exists(path):
                    tests += read_junit(preset, path)
            except ElementTree.ParseError as error:
                tests.append(Outcome(preset, "ctest's report", "failed", f"cannot be read: {error}"))
        if preset in ctest_codes and not any(test.state == "failed" for test in tests):
            detail = f"exit code {ctest_codes[preset]} though no test failed" if tests else "no tests"
            tests.append(Outcome(preset, "ctest", "failed", detail))
        outcomes += tests
    if not any(outcome.group != "checks" for outcome in outcomes):
        outcomes.append(Outcome("checks", "tests", "failed", "no test ran"))
    return outcomes


def print_times(steps, outcomes, cpus):
    """A step that keeps the CPUs less than busy waits for something: more of it could run at once."""
    print(f"\n{'step':28}{'s':>8}{'CPU s':>8}{'busy':>8}")
    total, total_cpu = sum(step[1] for step in steps), sum(step[2] for step in steps)
    for name, seconds, cpu_seconds in steps + [("all", total, total_cpu)]:
        if seconds or cpu_seconds:
            print(f"{name:28}{seconds:8}{cpu_seconds:8}{cpu_seconds / max(seconds, 1) / cpus:8.0%}")
    slowest = sorted(outcomes, key=lambda o: -o.seconds)[:SLOWEST]
    print("\nslowest tests, s:",
          ", ".join(f"{o.group} {o.name} {o.seconds:.0f}" for o in slowest if o.seconds >= 1))
    for outcome in slowest:
        if outcome.steps:
            print(f"  in {outcome.group} {outcome.name}: {outcome.steps}")
    print()


def main():
    folder, cpus, presets = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    outcomes = read_outcomes(folder, presets)

    print()
    print(f"{'':10}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for group in ["checks"] + presets:
        count = collections.Counter(o.state for o in outcomes if o.group == group)
        print(f"{group:10}{count['passed']:8}{count['failed']:8}{count['skipped']:8}")
    steps = [(step, int(seconds), int(cpu_seconds))
             for step, seconds, cpu_seconds in read_tsv(os.path.join(folder, "seconds.tsv"))]
    print_times(steps, outcomes, cpus)
    for state in ("skipped", "failed"):
        for outcome in outcomes:
            if outcome.state == state:
                print(f"{state.upper()} {outcome.group} {outcome.name}: {outcome.detail}")
                for line in outcome.tail:
                    print(f"    {line}")
    print()
    count = collections.Counter(o.state for o in outcomes)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    sys.exit(1 if count["failed"] else 0)


main()
