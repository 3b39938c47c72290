#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Man page and completions of a program, from what its --help says.

Usage: command_line.py PROGRAM TEMPLATE OUTPUT_FOLDER

TEMPLATE is an mdoc page whose line '.\\" @OPTIONS@' becomes the options of each command. The page goes to
OUTPUT_FOLDER under the template's name without '.in', the completions to bash/NAME, zsh/_NAME and
fish/NAME.fish. The date of the page is SOURCE_DATE_EPOCH's, or the template's.
"""
import os
import re
import subprocess
import sys
import time

COLUMN = 30  # where --help has its descriptions


class Option:
    def __init__(self, left, text):
        flags, _, self.argument = left.partition(" ")
        self.flags = flags.split(",")
        self.text = text
        choices = re.search(r"\{([^}]*)\}", self.argument)
        self.choices = choices.group(1).split(",") if choices else []
        self.value = re.match(r"[^\s:=]*", self.argument).group()
        default = re.search(r"=(\S+)", self.argument)
        self.default = default.group(1) if default else ""
        self.required = "REQUIRED" in self.argument
        self.is_list = self.value == "LIST"
        self.is_folder = self.value in ("DIR", "NAME|DIR")
        self.is_file = self.value == "FILE"


class Command:
    def __init__(self, name, summary, text):
        self.name, self.summary = name, summary
        sections = _sections(text)
        self.options = [Option(*row) for row in sections.get("Options", [])]
        self.positionals = [Option(*row) for row in sections.get("Positionals", [])]
        self.commands = sections.get("Subcommands", [])


def _sections(text):
    """{title: [(left, description)]}"""
    sections, rows = {}, None
    for line in text.splitlines():
        if re.fullmatch(r"[A-Z]\w+:", line):
            rows = sections.setdefault(line[:-1], [])
        elif rows is not None and line.startswith(" " * COLUMN):
            left, description = rows[-1]
            if description and not left[COLUMN - 3:COLUMN - 2].strip():
                rows[-1] = (left, f"{description} {line.strip()}")
            else:  # the left part did not fit, and the line was taken for both
                rows[-1] = (f"{left} {description}".strip(), line.strip())
        elif rows is not None and line.startswith("  "):
            head, tail = line[2:COLUMN].rstrip(), line[COLUMN:].strip()
            if len(line) > COLUMN - 1 and line[COLUMN - 1] != " ":
                head, tail = line.strip(), ""
            rows.append((head, tail))
    return sections


def read_program(program):
    """The Command of the program itself, and those of its subcommands."""
    def text_of(*words):
        return subprocess.run([program, *words, "--help"], check=True, text=True,
                              stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}).stdout
    text = text_of()
    top = Command("", text.splitlines()[0], text)
    return top, [Command(name, summary, text_of(name)) for name, summary in top.commands]


# The man page.

def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def sentences(text):
    text = text if text.endswith((".", ")")) else text + "."
    return [escape(sentence) for sentence in re.split(r"(?<=\.) (?=[A-Z])", text)]


def word(text):
    """One argument of an mdoc macro, whatever it has in it."""
    return '"' + escape(text).replace('"', '""') + '"'


def _option_lines(option):
    flags = " , ".join(f"Fl {escape(flag[1:])}" for flag in option.flags)
    lines = [f".It {flags}" + (f" Ar {word(option.value)}" if option.value else "")]
    lines += sentences(option.text)
    if option.choices:
        lines += [f"One of: {escape(', '.join(option.choices))}."]
    if option.default:
        lines += [f"Default: {escape(option.default)}."]
    if option.required:
        lines += ["Must be given."]
    return lines


def _options_block(options):
    if not options:
        return []
    lines = [".Bl -tag -width Ds"]
    for option in options:
        lines += _option_lines(option)
    return lines + [".El"]


def filled(template, mark, lines):
    """TEMPLATE with LINES in place of its line MARK, and a date."""
    if mark not in template.splitlines():
        raise ValueError(f"the template has no line {mark}")
    now = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = re.sub(" +", " ", time.strftime("%B %e, %Y", time.gmtime(now)))
    return template.replace("@DATE@", date).replace(mark, "\n".join(lines))


def man_page(template, program, top, commands):
    lines = _options_block(top.options)
    for command in commands:
        words = "".join(f" Ar {word(one.value)} ..." for one in command.positionals)
        lines += [f".Ss {program} {command.name}", f".Nm Cm {command.name} Op Ar options{words}",
                  ".Pp"]
        lines += sentences(command.summary)
        lines += _options_block(command.options)
    return filled(template, '.\\" @OPTIONS@', lines)


# The shells.

def _bash(program, top, commands):
    name = program.replace("-", "_")

    def cases(options):
        lines = []
        for option in options:
            if not option.argument:
                continue
            pattern = "|".join(option.flags)
            if option.choices:
                lines.append(f'      {pattern}) COMPREPLY=($(compgen -W "{" ".join(option.choices)}" '
                             '-- "$word")); return ;;')
            elif option.is_folder:
                lines.append(f'      {pattern}) COMPREPLY=($(compgen -d -- "$word")); return ;;')
            elif option.is_file:
                lines.append(f'      {pattern}) COMPREPLY=($(compgen -f -- "$word")); return ;;')
            else:
                lines.append(f"      {pattern}) return ;;")
        return lines

    def flags(options):
        return " ".join(flag for option in options for flag in option.flags)

    lines = [f"# {program}(1) completion for bash, made from its --help.",
             f"_{name}() {{",
             '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}',
             "  local command=${COMP_WORDS[1]}",
             "  COMPREPLY=()",
             "  if ((COMP_CWORD == 1)); then command=; fi",
             '  case "$command" in']
    for command in commands:
        lines += [f"    {command.name})", '    case "$before" in', *cases(command.options), "    esac",
                  f'    COMPREPLY=($(compgen -W "{flags(command.options)}" -- "$word"))']
        if command.positionals:
            lines.append('    [[ $word == -* ]] || COMPREPLY=($(compgen -f -- "$word"))')
        lines.append("    ;;")
    words = " ".join([command.name for command in commands] + [flags(top.options)])
    lines += ["    *)", '    case "$before" in', *cases(top.options), "    esac",
              f'    COMPREPLY=($(compgen -W "{words}" -- "$word"))', "    ;;", "  esac", "}",
              f"complete -o filenames -F _{name} {program}", ""]
    return "\n".join(lines)


def _zsh_quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_option(option):
    text = re.sub(r"([\[\]:\\])", r"\\\1", option.text)
    specs = []
    for flag in option.flags:
        spec = f"{flag}[{text}]"
        if option.argument:
            if option.choices:
                action = "(" + " ".join(option.choices) + ")"
            elif option.is_folder:
                action = "_files -/"
            elif option.is_file:
                action = "_files"
            else:
                action = " "
            spec += f":{re.sub(r'[^A-Za-z]+', ' ', option.value).strip().lower() or 'value'}:{action}"
        specs.append(_zsh_quote("*" + spec))
    return specs


def _zsh(program, top, commands):
    lines = [f"#compdef {program}", f"# {program}(1) completion for zsh, made from its --help.",
             f"_{program.replace('-', '_')}() {{", "  local -a commands", "  commands=("]
    for command in commands:
        text = f"{command.name}:{command.summary}"
        lines.append("    " + _zsh_quote(text))
    lines += ["  )", "  if (( CURRENT == 2 )); then"]
    if commands:
        lines.append("    _describe command commands")
    lines.append("    _arguments " + " ".join(spec for o in top.options for spec in _zsh_option(o)))
    lines += ["    return", "  fi", "  local command=$words[2]", "  shift words", "  (( CURRENT-- ))",
              "  case $command in"]
    for command in commands:
        specs = [spec for option in command.options for spec in _zsh_option(option)]
        if command.positionals:
            specs.append("'*:file:_files'")
        lines += [f"    {command.name})", "      _arguments " + " \\\n        ".join(specs), "      ;;"]
    lines += ["  esac", "}", f'_{program.replace("-", "_")} "$@"', ""]
    return "\n".join(lines)


def _fish(program, top, commands):
    def quote(text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def line(condition, option):
        words = [f"complete -c {program}", f"-n {quote(condition)}"]
        for flag in option.flags:
            words.append(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}")
        if option.argument:
            words.append("-r")
            if option.choices:
                words.append(f"-f -a {quote(' '.join(option.choices))}")
            elif option.is_folder:
                words.append("-f -a '(__fish_complete_directories)'")
            elif not option.is_file:
                words.append("-f")
        words.append(f"-d {quote(option.text)}")
        return " ".join(words)

    lines = [f"# {program}(1) completion for fish, made from its --help.", f"complete -c {program} -f"]
    lines += [line("__fish_use_subcommand", option) for option in top.options]
    for command in commands:
        lines.append(f"complete -c {program} -n __fish_use_subcommand -a {command.name} "
                     f"-d {quote(command.summary)}")
        condition = f"__fish_seen_subcommand_from {command.name}"
        lines += [line(condition, option) for option in command.options]
        if command.positionals:
            lines.append(f"complete -c {program} -n {quote(condition)} -F")
    return "\n".join(lines) + "\n"


def main():
    path, template, folder = sys.argv[1:]
    program = os.path.basename(path)
    top, commands = read_program(path)
    with open(template, encoding="utf-8") as file:
        page = man_page(file.read(), program, top, commands)
    outputs = {os.path.basename(template).removesuffix(".in"): page,
               f"bash/{program}": _bash(program, top, commands),
               f"zsh/_{program}": _zsh(program, top, commands),
               f"fish/{program}.fish": _fish(program, top, commands)}
    for name, text in outputs.items():
        target = os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
