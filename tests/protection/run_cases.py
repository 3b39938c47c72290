# SPDX-License-Identifier: Apache-2.0
"""Runs the tests behind a list of cases, and prints what each case came to.

Usage: run_cases.py BUILD_FOLDER [--page FILE] [--check] [--json FILE]

The list is cases.tsv beside this file, or the tables of a page: rows of what, what happens, and in
backticks the tests that show it. A name stands for all tests that begin with it and a dot, too.

A case holds when each of its tests passed. One whose test was skipped, failed or is missing does
not, nor does one that is open. Exit code 0: all hold; 1: some do not; 2: the table is wrong.
--check: runs nothing; 2 when a test of the table is none of the build's.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cases.tsv')
ATTACHMENTS = ('any', 'fanotify', 'module')


def read_cases():
    cases = []
    with open(TABLE, encoding='utf-8') as table:
        for number, line in enumerate(table, 1):
            line = line.rstrip('\n')
            if not line or line.startswith('#'):
                continue
            fields = line.split('\t')
            if len(fields) != 4 or fields[1] not in ATTACHMENTS or not fields[3]:
                sys.exit(f'{TABLE}:{number}: expected: section, {" or ".join(ATTACHMENTS)}, case, '
                         'tests, with tabs between them')
            section, attachment, case, shown = fields
            is_open = shown == 'open' or shown.startswith('open:')
            cases.append({'section': section, 'attachment': attachment, 'case': case,
                          'tests': [] if is_open else shown.split(),
                          'open': shown if is_open else ''})
    return cases


def read_page(path):
    """The rows of its tables whose last field has names in backticks; the heading is the section."""
    cases, section = [], ''
    with open(path, encoding='utf-8') as page:
        for line in page:
            if line.startswith('## '):
                section = line[3:].strip()
            fields = [field.strip() for field in line.strip().strip('|').split(' | ')]
            names = re.findall(r'`([^`]+)`', fields[-1])
            if line.startswith('|') and len(fields) == 3 and names:
                cases.append({'section': section, 'attachment': 'any', 'case': fields[0],
                              'tests': names, 'open': ''})
    if not cases:
        sys.exit(f'{path}: no table with rows of what, what happens, `tests`')
    return cases


def meant(names, known):
    """{name: the tests that it stands for}"""
    return {name: {test for test in known if test == name or test.startswith(name + '.')}
            for name in names}


def tests_of(build):
    listed = subprocess.run(['ctest', '-N'], cwd=build, check=True, capture_output=True, text=True)
    return set(re.findall(r'^ *Test *#\d+: (.*)$', listed.stdout, re.MULTILINE))


def run_tests(build, names):
    """{name: 'passed', 'failed' or 'skipped'}"""
    with tempfile.TemporaryDirectory(prefix='bulkhead-cases.') as folder:
        report = os.path.join(folder, 'junit.xml')
        pattern = '|'.join(re.escape(name) for name in sorted(names))
        subprocess.run(['ctest', '-R', f'^({pattern})$', '--output-junit', report,
                        '--output-on-failure'], cwd=build, check=False, stdout=sys.stderr)
        outcomes = {}
        for case in xml.etree.ElementTree.parse(report).getroot().iter('testcase'):
            status = case.get('status')
            outcomes[case.get('name')] = ('passed' if status == 'run' else
                                          'failed' if status == 'fail' else 'skipped')
        return outcomes


def outcome_of(case, outcomes):
    if case['open']:
        return case['open']
    worst = [f'{outcomes.get(name, "missing")}: {name}' for name in case['tests']
             if outcomes.get(name) != 'passed']
    return worst[0] if worst else 'held'


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('build')
    parser.add_argument('--page', metavar='FILE')
    parser.add_argument('--check', action='store_true')
    parser.add_argument('--json', metavar='FILE')
    options = parser.parse_args()
    cases = read_page(options.page) if options.page else read_cases()
    stands_for = meant({name for case in cases for name in case['tests']}, tests_of(options.build))
    missing = sorted(name for name, tests in stands_for.items() if not tests)
    for name in missing:
        print(f'{options.page or TABLE}: {name} is no test of {options.build}', file=sys.stderr)
    if missing or options.check:
        return 2 if missing else 0
    for case in cases:
        case['tests'] = sorted(set().union(*(stands_for[name] for name in case['tests'])))
    outcomes = run_tests(options.build, {name for case in cases for name in case['tests']})
    figures = []
    width = max(len(case['case']) for case in cases)
    for case in cases:
        outcome = outcome_of(case, outcomes)
        print(f'{case["section"]}  {case["attachment"]:8}  {case["case"]:{width}}  {outcome}')
        held = outcome == 'held'
        figures.append({'name': case['case'], 'value': 1 if held else 0, 'unit': '', 'limit': 1,
                        'relation': '>=', 'pass': held})
    held = sum(figure['pass'] for figure in figures)
    print(f'\n{held} of {len(figures)} cases are held')
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            json.dump({'schema': 1, 'command': 'cases', 'figures': figures}, file, indent=2)
    return 0 if held == len(figures) else 1


sys.exit(main())
