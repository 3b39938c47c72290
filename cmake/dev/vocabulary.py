#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what is made from the vocabulary in ipc/abi and is no compiled code.

Usage: vocabulary.py SOURCES [--check]

  host/sdk/include/bulkhead/callbacks.h   the SDK's constants: it is installed without ipc/abi
  docs/*.md                               the tables between <!-- vocabulary NAME --> and
                                          <!-- end -->

SOURCES is the root of this tree. --check changes nothing, names the files that are out of date, and
exits with 1 when there is one. Exit code 2: wrong usage.
"""
import re
import sys
from pathlib import Path

ROW = re.compile(r'^\s*(?:BH_\w+|X)\(((?:[^"()]|\(\))*)"([^"]*)"\)', re.M)


def rows(path, after=None):
    """The rows of a .def, or of the list that follows `after`: [cells..., doc]."""
    text = path.read_text()
    if after is not None:
        text = text[text.index(after):]
        text = text[:text.index('\n\n')]
    else:
        text = text[text.index('clang-format off'):]
    return [[cell.strip() for cell in found.group(1).rstrip(', ').split(',')] + [found.group(2)]
            for found in ROW.finditer(text)]


def table(head, body):
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    return lines + ['| ' + ' | '.join(row) + ' |' for row in body]


def tables(abi):
    classes = {row[1]: (int(row[0]), row[2]) for row in rows(abi / 'classes.def')}

    def number(row):
        return '0x%04x' % (classes[row[0]][0] << 8 | int(row[1]))

    lists = {
        'reasons': (abi / 'policy.h', 'define BH_FOR_EACH_REASON'),
        'actions': (abi / 'policy.h', 'define BH_FOR_EACH_ACTION'),
        'ends': (abi / 'end.h', 'define BH_FOR_EACH_END'),
        'events': (abi / 'events.h', 'define BH_FOR_EACH_EVENT'),
        'violations': (abi / 'events.h', 'define BH_FOR_EACH_VIOLATION'),
        'modes': (abi / 'policy.h', 'define BH_FOR_EACH_MODE'),
        'denials': (abi / 'denial.h', 'define BH_FOR_EACH_DENIAL'),
        'protections': (abi / 'protection.h', 'define BH_FOR_EACH_PROTECTION'),
        'sandbox_levels': (abi / 'sandbox.h', 'define BH_FOR_EACH_SANDBOX_LEVEL'),
        'starts': (abi / 'events.h', 'define BH_FOR_EACH_START'),
    }
    made = {name: table(['value', 'name', 'meaning'],
                        [[row[0], f'`{row[2]}`', row[3]] for row in rows(*source)])
            for name, source in lists.items()}
    made['sandbox_layers'] = table(
        ['bit', 'name', 'needed from', 'what'],
        [[row[0], f'`{row[2]}`', f'`{row[3].lower()}`', row[4]]
         for row in rows(abi / 'sandbox.h', 'define BH_FOR_EACH_SANDBOX_LAYER')])
    flags = rows(abi / 'channel_spec.h', 'define BH_FOR_EACH_CHANNEL_FLAG')
    made['channel_flags'] = table(
        ['bit', 'key of a manifest', 'default', 'meaning of true'],
        [[row[0], f'`{row[2]}`', 'true' if row[3] == '1' else 'false', row[4]] for row in flags])
    made['classes'] = table(['class', 'name', 'of what'],
                            [[row[0], f'`{row[2]}`', row[3]] for row in rows(abi / 'classes.def')])
    made['callbacks'] = table(
        ['id', 'name', 'kind', 'when', 'constant of the SDK'],
        [[number(row), f'`{row[3]}`', row[4].lower(), row[9], f'`BULKHEAD_ON_{row[2]}`']
         for row in rows(abi / 'callbacks.def')])
    made['notifications'] = table(
        ['id', 'name', 'body', 'of what', 'constant of the SDK'],
        [[number(row), f'`{row[3]}`', '' if row[4] == 'none' else f'`struct bh_{row[4]}`', row[5],
          f'`BULKHEAD_{row[2]}`']
         for row in rows(abi / 'notifications.def')])
    made['counters'] = table(
        ['name', 'counts'], [[f'`{row[1]}`', row[-1]] for row in rows(abi / 'statistics.def')])
    return made


def sdk_header(abi):
    classes = {row[1]: int(row[0]) for row in rows(abi / 'classes.def')}
    callbacks = rows(abi / 'callbacks.def')
    kinds = rows(abi / 'notifications.def')

    def number(row):
        return '0x%04x' % (classes[row[0]] << 8 | int(row[1]))

    lines = ['/* SPDX-License-Identifier: Apache-2.0 */', '/*',
             ' * bulkhead/callbacks.h: what a driver can register for. Part of <bulkhead/driver.h>.',
             ' * Made from ipc/abi/callbacks.def and notifications.def by cmake/dev/vocabulary.py.',
             ' */', '#ifndef BULKHEAD_CALLBACKS_H_', '#define BULKHEAD_CALLBACKS_H_', '',
             '/* clang-format off */',
             '/* Callbacks: the driver answers, and a caller waits for it. */',
             'enum bulkhead_callback {']
    lines += [f'  BULKHEAD_ON_{row[2]} = {number(row)}, /* {row[9]} */' for row in callbacks]
    lines += ['};', '', '/* The same by class, as X(NAME, name). */']
    for name in dict.fromkeys(row[0] for row in callbacks):
        of_class = [f'X({row[2]}, {row[3]})' for row in callbacks if row[0] == name]
        lines.append(f'#define BULKHEAD_FOR_EACH_{name}_CALLBACK(X) ' + ' '.join(of_class))
    lines += ['', '/* Notifications: the driver is not asked, and no caller waits. */',
              'enum bulkhead_notification_kind {']
    lines += [f'  BULKHEAD_{row[2]} = {number(row)}, /* {row[5]} */' for row in kinds]
    lines += ['};', '/* clang-format on */', '', '#endif /* BULKHEAD_CALLBACKS_H_ */', '']
    return '\n'.join(lines)


def page(text, made, path):
    def fill(found):
        name = found.group(1)
        if name not in made:
            sys.exit(f'{path}: no table is named {name}: {", ".join(sorted(made))}')
        return '\n'.join([f'<!-- vocabulary {name} -->'] + made[name] + ['<!-- end -->'])

    return re.sub(r'<!-- vocabulary (\w+) -->\n.*?<!-- end -->', fill, text, flags=re.S)


def refuse(why):
    print(f'vocabulary.py: {why}; vocabulary.py --help', file=sys.stderr)
    return 2


def main():
    arguments = sys.argv[1:]
    if '--help' in arguments or '-h' in arguments:
        print(__doc__.strip())
        return 0
    check = '--check' in arguments
    unknown = [word for word in arguments if word.startswith('-') and word != '--check']
    if unknown:
        return refuse(f"unknown option '{unknown[0]}'")
    folders = [word for word in arguments if not word.startswith('-')]
    if len(folders) != 1:
        return refuse(f'it takes one folder, not {len(folders)}')
    root = Path(folders[0])
    abi = root / 'ipc/abi'
    if not (abi / 'callbacks.def').is_file():
        return refuse(f"'{root}' has no ipc/abi/callbacks.def; name the root of Bulkhead's sources")
    made = tables(abi)
    wanted = {root / 'host/sdk/include/bulkhead/callbacks.h': sdk_header(abi)}
    for path in sorted((root / 'docs').glob('*.md')):
        wanted[path] = page(path.read_text(), made, path)
    stale = [path for path, text in wanted.items()
             if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f'{path.relative_to(root)} is out of date: run cmake/dev/vocabulary.py .')
        else:
            path.write_text(wanted[path])
    return 1 if check and stale else 0


if __name__ == '__main__':
    sys.exit(main())
