# SPDX-License-Identifier: Apache-2.0
"""Checks comments, string literals and documentation against a list of words.

Usage: words.py LIST FILE...

LIST has lines: KIND, a tab, a regular expression (case is ignored), a tab, advice. A line of the kind
`never` is an error at every place. The lines of the kind `rare` are counted together, in comments and
documentation, and may make up at most 1 in 1,000 words of each area (a top-level folder, or the
documentation); above that each place is printed. Exit status 1 when something was found.
"""
import collections
import os
import re
import sys

RARE_PER_WORDS = 1000
DOCUMENTATION = "documentation"

C_LIKE = {".c", ".h", ".cc", ".hpp", ".pml", ".fbs", ".proto", ".def", ".js", ".css"}
HASH_LIKE = {".sh", ".py", ".cmake", ".txt", ""}

C_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/"""  # comments
    r"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'""",  # literals
    re.DOTALL)
HASH_TOKEN = re.compile(
    r"""(?:^|(?<=\s))\#[^\n]*"""  # comments; docstrings are literals
    r"|\"\"\".*?\"\"\"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'",
    re.DOTALL | re.MULTILINE)
MARKDOWN_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def blank(match):
    """As many lines as before, so that line numbers stay right."""
    return "\n" * match.group().count("\n")


def pieces(path, text):
    """(offset, text, is_comment) of what a person reads in the file."""
    suffix = os.path.splitext(path)[1]
    if suffix == ".md":
        yield 0, MARKDOWN_CODE.sub(blank, text), True
        return
    token = C_TOKEN if suffix in C_LIKE else HASH_TOKEN
    for match in token.finditer(text):
        start = match.group()[:3]
        is_comment = start.startswith(("//", "/*", "#")) or start == '"""'
        yield match.start(), match.group(), is_comment


def read_list(path):
    rules = {"never": [], "rare": []}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) != 3 or fields[0] not in rules:
                sys.exit(f"{path}:{number}: expected: never or rare, a tab, a pattern, a tab, advice")
            rules[fields[0]].append((re.compile(rf"\b(?:{fields[1]})\b", re.IGNORECASE), fields[2]))
    return rules


def area_of(path):
    if path.endswith(".md"):
        return DOCUMENTATION
    return path.split("/")[0] if "/" in path else "."


def main(list_path, paths):
    rules = read_list(list_path)
    bad = 0
    words = collections.Counter()
    rare = collections.defaultdict(list)
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        for offset, piece, is_comment in pieces(path, text):
            line_before = text.count("\n", 0, offset) if offset else 0

            def place(match, line_before=line_before, piece=piece):
                return f"{path}:{line_before + piece.count(chr(10), 0, match.start()) + 1}"

            for pattern, advice in rules["never"]:
                for match in pattern.finditer(piece):
                    print(f"{place(match)}: '{match.group()}': {advice}")
                    bad += 1
            if not is_comment:
                continue
            area = area_of(path)
            words[area] += len(WORD.findall(piece))
            for pattern, advice in rules["rare"]:
                for match in pattern.finditer(piece):
                    rare[area].append(f"{place(match)}: '{match.group()}': {advice}")
    for area, places in sorted(rare.items()):
        allowed = max(1, words[area] // RARE_PER_WORDS)
        if len(places) <= allowed:
            continue
        print("\n".join(places))
        print(f"{area}: {len(places)} person-words in {words[area]} words of comments; {allowed} are allowed")
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
