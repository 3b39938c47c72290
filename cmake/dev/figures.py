# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of a table of figures and prints one table from their JSON reports.

Usage: figures.py TABLE PROGRAMS_FOLDER [GROUP] [--soak MINUTES] [--json FILE]

--soak: the soaks (storm-soak) take that long instead of their short form.
"""
import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile

COMMAND_TIMEOUT_S = 900
SOAK = "storm-soak --short"


def read_table(path, group):
    """[(group, command line)] of the table, limited to `group` when one is given."""
    entries = []
    with open(path, encoding="utf-8") as table:
        for number, line in enumerate(table, 1):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            name, tab, command = line.partition("\t")
            if not tab or not command.strip():
                sys.exit(f"{path}:{number}: expected: group, a tab, a command line")
            entries.append((name, command))
    groups = sorted({name for name, _ in entries})
    if group and group not in groups:
        print(f"figures: unknown group '{group}'; there are: {' '.join(groups)}", file=sys.stderr)
        sys.exit(2)
    return [entry for entry in entries if group in (None, entry[0])]


def missing(name):
    return {"name": name, "value": None, "unit": "", "limit": None, "relation": None, "pass": False}


def run(command, programs, folder, timeout_s):
    """The figures of one command. A command without a report gives one missed figure."""
    report_path = os.path.join(folder, "report.json")
    if os.path.exists(report_path):
        os.remove(report_path)
    arguments = shlex.split(command)
    arguments[0] = os.path.join(programs, arguments[0])
    try:
        process = subprocess.Popen(arguments + ["--json", report_path], stdin=subprocess.DEVNULL,
                                   start_new_session=True)
    except OSError as error:
        return [missing(f"cannot run it: {error.strerror}")]
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return [missing(f"no end within {timeout_s} s")]
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise
    try:
        with open(report_path, encoding="utf-8") as file:
            report = json.load(file)
        if report["schema"] != 1:
            return [missing(f"report of unknown schema {report['schema']}")]
        figures = report["figures"]
        if code != 0 and all(figure["pass"] for figure in figures):
            figures.append(missing(f"exit code {code}"))
        return figures or [missing("a report without figures")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [missing(f"no report (exit code {code}): {error}")]


def number(value):
    if value is None:
        return ""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}"


def print_table(results):
    rows = [("command", "figure", "value", "unit", "limit", "")]
    for command, figures in results:
        for figure in figures:
            limit = ""
            if figure["limit"] is not None:
                limit = f"{figure['relation']} {number(figure['limit'])}"
            outcome = "MISSED" if not figure["pass"] else "ok" if limit else ""
            rows.append((command, figure["name"], number(figure["value"]), figure["unit"], limit,
                         outcome))
            command = ""
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [cell.rjust(width) if column == 2 else cell.ljust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def main():
    parser = argparse.ArgumentParser(prog="./dev figures")
    parser.add_argument("table")
    parser.add_argument("programs")
    parser.add_argument("group", nargs="?")
    parser.add_argument("--soak", metavar="MINUTES", type=int)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    results = []
    with tempfile.TemporaryDirectory(prefix="bulkhead-figures.") as folder:
        for _, command in read_table(options.table, options.group):
            timeout_s = COMMAND_TIMEOUT_S
            if options.soak and command == SOAK:
                command = f"storm-soak --seconds {options.soak * 60}"
                timeout_s += options.soak * 60
            print(f"== {command}", flush=True)
            results.append((command, run(command, options.programs, folder, timeout_s)))
    print()
    print_table(results)
    figures = [dict(figure, name=f"{command}: {figure['name']}")
               for command, list_ in results for figure in list_]
    missed = sum(not figure["pass"] for figure in figures)
    print(f"\n{len(figures) - missed} figures hold, {missed} missed")
    if options.json:
        report = {"schema": 1, "command": "figures", "figures": figures}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    sys.exit(1 if missed else 0)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
