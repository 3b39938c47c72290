# SPDX-License-Identifier: Apache-2.0
"""Checks that every promise of docs/specification.md is shown by tests that ran, or by a command of ./dev.

Usage: specification.py PAGE RESULTS.xml...

Each row of a promise has four fields: number, promise, shown by, state. What stands in backticks under
"shown by" is a command of ./dev, or a test of the results (ctest's junit files) by its name or by the
first part of it.
"""
import os
import re
import sys
import xml.etree.ElementTree

FIELDS = "number, promise, shown by, state"


def tests_of(paths):
    """Each name, and what stands before each of its dots: bin_test, bin_test.Suite, bin_test.Suite.Name."""
    names = set()
    for path in paths:
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            name = case.get("name").removeprefix("fuzz.fuzz_")
            names.add(case.get("name"))
            parts = case.get("name").split(".")
            names.update(".".join(parts[:count]) for count in range(1, len(parts)))
            if name != case.get("name"):
                names.add("fuzz_" + name)
    return names


def main(page, results):
    tests = tests_of(results)
    commands = {file[:-3] for file in os.listdir(os.path.dirname(__file__)) if file.endswith(".sh")}
    bad = []
    numbers = set()
    with open(page, encoding="utf-8") as file:
        for line_number, line in enumerate(file, 1):
            if not re.match(r"\| [A-Z]+\d+ \|", line):
                continue
            place = f"{page}:{line_number}"
            fields = [field.strip() for field in line.strip()[1:-1].split("|")]
            if len(fields) != 4:
                bad.append(f"{place}: {len(fields)} fields; expected: {FIELDS}")
                continue
            number, _, shown_by, state = fields
            if number in numbers:
                bad.append(f"{place}: {number} stands twice")
            numbers.add(number)
            names = re.findall(r"`([^`]+)`", shown_by)
            if not names and "**pending**" not in state:
                bad.append(f"{place}: {number} names no test and is not **pending**")
            for name in names:
                known = name.split()[1] in commands if name.startswith("./dev ") else name in tests
                if not known:
                    bad.append(f"{place}: {number}: no test '{name}' ran, and ./dev has no such command")
    if not numbers:
        bad.append(f"{page}: no row of a promise; expected: | C1 | promise | `test` | state |")
    print("\n".join(bad) if bad else f"{len(numbers)} promises, each shown by tests that ran or by a command")
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
