#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""The man page of the configuration file, from the table of its keys.

Usage: config_page.py HEADER TEMPLATE OUTPUT

HEADER has the rows X("table", "key", "what it takes", "meaning"). TEMPLATE's line '.\\" @KEYS@' becomes a
subsection for each table.
"""
import re
import sys

import command_line

TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(,)|(\))')


def rows(text):
    """[(table, key, takes, meaning)]; literals that stand side by side are one, as in C."""
    found = []
    for start in re.finditer(r'\bX\(\s*(?=")', text):
        fields = [""]
        for token in TOKEN.finditer(text, start.end()):
            if token.group(3):
                break
            if token.group(2):
                fields.append("")
            else:
                fields[-1] += token.group(1).replace('\\"', '"')
        if len(fields) != 4:
            raise ValueError(f"a row with {len(fields)} fields: {fields}")
        found.append(tuple(fields))
    if not found:
        raise ValueError("the header has no rows X(\"table\", ...)")
    return found


def page(template, keys):
    lines, table = [], None
    for name, key, takes, meaning in keys:
        if name != table:
            lines += [".El"] if table else []
            table = name
            lines += [f".Ss {command_line.word(name)}", ".Bl -tag -width Ds"]
        lines += [f".It Cm {command_line.word(key)} No = Ar {command_line.word(takes)}"]
        lines += command_line.sentences(meaning)
    return command_line.filled(template, '.\\" @KEYS@', lines + [".El"])


def main():
    header, template, output = sys.argv[1:]
    with open(header, encoding="utf-8") as file:
        keys = rows(file.read())
    with open(template, encoding="utf-8") as file:
        text = page(file.read(), keys)
    with open(output, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
