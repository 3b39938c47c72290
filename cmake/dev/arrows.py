# SPDX-License-Identifier: Apache-2.0
"""Checks that each folder includes only the folders that the table in docs/architecture.md allows.

Usage: arrows.py ROOT

The table "The house" has a row for each folder: | `folder` | what it is | what it may include |. A file
belongs to the longest folder of the table that it stands in; a header of a folder may be included by
the folder itself and by those whose row names it. A row that names `ipc` means its subfolders
`ipc/abi` and `ipc/schema` too. Tests (*_test.cc) and what stands in a folder `testing` may include
anything, as bench/ and tests/ may, which have no row. No header includes a library of HEAVY: one
such header costs each file below it seconds. Exit status 1 when an include goes against the table or
HEAVY, 2 when the table can't be read.
"""
import os
import re
import sys

ROW = re.compile(r"^\| `([^`]+)` \| [^|]* \| ([^|]*) \|$", re.MULTILINE)
NAME = re.compile(r"`([^`]+)`")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
HEAVY = re.compile(r'^\s*#\s*include\s+[<"](CLI/CLI\.hpp|nlohmann/json\.hpp)[">]', re.MULTILINE)
IMPLIED = {"ipc": ["ipc/abi", "ipc/schema"]}
SOURCES = (".h", ".hpp", ".c", ".cc", ".def")
TOP_FOLDERS = ("ipc", "shim", "host", "drivers")


def read_table(root):
    """{folder: the folders that it may include}"""
    with open(os.path.join(root, "docs/architecture.md"), encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("## The house"):]
    text = text[:text.index("\n## ", 1)]
    table = {}
    for folder, allowed in ROW.findall(text):
        if allowed == "all of the above":
            table[folder] = set(table)
            continue
        table[folder] = set()
        for name in NAME.findall(allowed):
            table[folder].update([name], IMPLIED.get(name, []))
    return table


def folder_of(path, table):
    parts = path.split("/")[:-1]
    while parts:
        if "/".join(parts) in table:
            return "/".join(parts)
        parts.pop()
    return None


def is_test(path):
    return "/testing/" in path or re.search(r"_test\.(cc|c|h)$", path) is not None


def sources(root, tops=TOP_FOLDERS):
    for top in tops:
        for where, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                if name.endswith(SOURCES):
                    yield os.path.relpath(os.path.join(where, name), root)


def main():
    root = sys.argv[1]
    table = read_table(root)
    if len(table) < 10:
        print("docs/architecture.md: the table of folders under 'The house' can't be read")
        return 2
    wrong = 0
    for path in sorted(sources(root)):
        if is_test(path):
            continue
        own = folder_of(path, table)
        with open(os.path.join(root, path), encoding="utf-8") as file:
            text = file.read()
        if own is None:
            print(f"{path}: docs/architecture.md has no row for its folder")
            wrong += 1
            continue
        for included in INCLUDE.findall(text):
            other = folder_of(included, table)
            # Generated headers and those beside the file have no folder of the tree.
            if other is None and included.split("/")[0] in TOP_FOLDERS + ("bench", "tests"):
                other = included.rsplit("/", 1)[0]
            if other is None or other == own or other in table[own]:
                continue
            print(f"{path}: {own} may not include {other} (\"{included}\"); see docs/architecture.md, The house")
            wrong += 1
    for path in sorted(sources(root, TOP_FOLDERS + ("bench", "tests"))):
        if not path.endswith((".h", ".hpp")):
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            for included in HEAVY.findall(file.read()):
                print(f"{path}: a header may not include {included}; declare the class, or include "
                      "<nlohmann/json_fwd.hpp>")
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
