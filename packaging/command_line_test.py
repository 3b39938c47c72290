#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Holds man pages and completions against what --help says of commands and options, and against the
keys of the configuration file.

Usage: command_line_test.py PROGRAM_FOLDER FOLDER_OF_PAGES_AND_COMPLETIONS HEADER_OF_KEYS
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import unittest

import command_line
import config_page

HERE = os.path.dirname(os.path.abspath(__file__))


def output_of(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


def flags_of(text):
    """Read from --help more simply than command_line.py does, and apart from it."""
    flags = []
    for words in re.findall(r"^  (-\S+)", text, re.MULTILINE):
        flags += words.split(",")
    return flags


def commands_of(text):
    _, _, rows = text.partition("Subcommands:\n")
    return re.findall(r"^  (\w[\w-]*) ", rows, re.MULTILINE)


def helps(program):
    """{command, "" for the program itself: its --help}"""
    path = os.path.join(PROGRAMS, program)
    top = output_of(path, "--help")
    return {"": top} | {name: output_of(path, name, "--help") for name in commands_of(top)}


def pages():
    return sorted(glob.glob(os.path.join(MADE, "*.[1-8]")) +
                  glob.glob(os.path.join(HERE, "man", "*.[1-8]")))


def described():
    return [os.path.basename(path) for path in sorted(glob.glob(os.path.join(MADE, "bash", "*")))]


class PagesTest(unittest.TestCase):
    def render(self, page):
        if shutil.which("mandoc") is None:
            self.skipTest("mandoc is not there (package mandoc)")
        return output_of("mandoc", "-T", "utf8", "-O", "width=1000", page)

    def text(self, page):
        text = re.sub(r".\x08", "", self.render(page)).replace("\u2010", "-").replace("\u2212", "-")
        return text.replace("\u2013", "-")

    def test_every_page_is_well_formed(self):
        self.assertTrue(pages())
        for page in pages():
            with open(page, encoding="utf-8") as file:
                if file.read().startswith(".so "):
                    continue
            self.render(page)
            lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], check=False,
                                  text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(lint.stdout, "", page)

    def test_every_command_and_option_is_in_the_page(self):
        self.assertIn("bulkhead", described())
        for program in described():
            page = self.text(glob.glob(os.path.join(MADE, f"{program}.[1-8]"))[0])
            for command, text in helps(program).items():
                part = page
                if command:
                    _, _, part = page.partition(f"\n   {program} {command}\n")
                    self.assertTrue(part, f"{program} {command} has no part of its own")
                    part = re.split(rf"\n   {program} |\n[A-Z]", part)[0]
                self.assertIn("--help", flags_of(text))
                for flag in flags_of(text):
                    self.assertRegex(part, rf"(?m)^\s+([^\n]*\s)?{re.escape(flag)}(\s|,|$)",
                                     f"{program} {command}")

    def test_every_installed_program_has_a_page(self):
        for program in ("bulkhead", "bulkheadd", "bulkhead-rules", "bulkhead-host",
                        "bulkhead-shim-fanotify", "bulkhead-fdstore"):
            if not os.path.exists(os.path.join(PROGRAMS, program)):
                continue
            self.assertTrue(any(os.path.basename(page).rpartition(".")[0] == program
                                for page in pages()), program)


class ConfigurationTest(unittest.TestCase):
    def test_every_key_is_in_the_page(self):
        if not os.path.exists(KEYS):
            self.skipTest(f"there is no {KEYS}")
        with open(KEYS, encoding="utf-8") as file:
            keys = re.findall(r'X\("([^"]+)", "([^"]+)"', file.read())
        self.assertTrue(keys)
        with open(os.path.join(MADE, "bulkhead.toml.5"), encoding="utf-8") as file:
            page = file.read().replace("\\-", "-")
        for table, key in keys:
            part = page.partition(f'.Ss "{table}"\n')[2].partition("\n.Ss ")[0]
            self.assertIn(f'.It Cm "{key}" ', part, table)

    def test_reads_rows_as_the_compiler_does(self):
        text = ('#define KEYS(X) X("a", "b", "\\"c\\", d", "e, " \\\n "f (g)")  \\\n'
                '  X("a", "h", "i", "j")\n#define X(table, key, takes, meaning) {table},\n')
        self.assertEqual(config_page.rows(text),
                         [("a", "b", '"c", d', "e, f (g)"), ("a", "h", "i", "j")])
        with self.assertRaises(ValueError):
            config_page.rows('X("a", "b")')


class BashTest(unittest.TestCase):
    def complete(self, program, *words):
        script = (f'source "$1"; COMP_WORDS=({program} "${{@:2}}"); COMP_CWORD=$(($# - 1)); '
                  f'_{program.replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}"')
        path = os.path.join(MADE, "bash", program)
        return output_of("bash", "-c", script, "bash", path, *words).split()

    def test_offers_what_help_lists(self):
        for program in described():
            for command, text in helps(program).items():
                words = [command, "-"] if command else ["-"]
                self.assertEqual(sorted(self.complete(program, *words)), sorted(flags_of(text)))
            commands = commands_of(output_of(os.path.join(PROGRAMS, program), "--help"))
            offered = [word for word in self.complete(program, "") if word[0] != "-"]
            self.assertEqual(sorted(offered), sorted(commands))

    def test_offers_values(self):
        self.assertEqual(self.complete("bulkhead", "run", "--attachment", "fa"), ["fanotify"])
        self.assertEqual(self.complete("bulkhead", "run", "--deadline", ""), [])


class OtherShellsTest(unittest.TestCase):
    def check(self, shell, name, form):
        for program in described():
            path = os.path.join(MADE, shell, name.format(program))
            with open(path, encoding="utf-8") as file:
                script = file.read()
            for command, text in helps(program).items():
                if command:
                    self.assertRegex(script, rf"(?m)(\s|'){re.escape(command)}(\)|:|\s)")
                for flag in flags_of(text):
                    self.assertIn(form(flag), script, f"{program} {command}")
            if shutil.which(shell):
                output_of(shell, "-n", path)

    def test_zsh(self):
        self.check("zsh", "_{}", lambda flag: f"'*{flag}[")

    def test_fish(self):
        self.check("fish", "{}.fish",
                   lambda flag: f" -l {flag[2:]} " if flag[1] == "-" else f" -s {flag[1:]} ")


class ReadingTest(unittest.TestCase):
    def test_reads_long_and_short_left_parts(self):
        text = ("Does things\nUsage: x [OPTIONS]\n\nOptions:\n"
                "  -h,--help                   Print this\n"
                "  --on-hung ANSWER=hold,allow The answer\n"
                "  --attachment,--attach NAME:{auto,module}\n"
                "                              Where from\n"
                "  --accept LIST:{a,b} ... REQUIRED\n"
                "                              Limits\n")
        read = command_line.Command("x", "Does things", text)
        self.assertEqual([option.flags for option in read.options],
                         [["-h", "--help"], ["--on-hung"], ["--attachment", "--attach"], ["--accept"]])
        self.assertEqual([option.text for option in read.options],
                         ["Print this", "The answer", "Where from", "Limits"])
        self.assertEqual([option.choices for option in read.options],
                         [[], [], ["auto", "module"], ["a", "b"]])
        self.assertEqual(read.options[1].default, "hold,allow")
        self.assertEqual([option.required for option in read.options], [False, False, False, True])


if __name__ == "__main__":
    KEYS = sys.argv.pop(3)
    MADE = sys.argv.pop(2)
    PROGRAMS = sys.argv.pop(1)
    unittest.main()
