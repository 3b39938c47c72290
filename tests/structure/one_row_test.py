#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a new counter, callback, notification or boolean of a channel costs in files.

Usage: one_row_test.py SOURCES GENERATED CC CXX     (GENERATED: where flatc's headers are)
"""
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCES, GENERATED, CC, CXX = Path(sys.argv[1]), *sys.argv[2:5]

sys.dont_write_bytecode = True
sys.path.insert(0, str(SOURCES / 'cmake/dev'))
import vocabulary  # noqa: E402

# Product files outside the core that decide something by a counter, and by which.
READERS = {
    'host/cli/status.cc': {'notified', 'took'},
    'host/service/metrics_text.cc': {'took', 'took_ns'},
    'host/attachment/embedded/embedded_attachment.cc': {'calls', 'denied'},
    'host/attachment/module/module_attachment.cc': {'calls', 'denied'},
    'host/cli/top_screen.cc': {'calls', 'denied', 'would_deny', 'by_policy', 'took'},
    'host/service/service_log.cc': {'let_through'},
    'host/supervisor/supervisor.cc': {'poison_known', 'users_quarantined', 'let_through', 'unrecorded'},
}

# What a boolean of a channel costs: its row, and each use of it in the core or in a shim's source.
FLAG_ROW = ' \\\n\tX(31, EXAMPLE, example_flag, 1, "an example")\n/* clang-format on */'
FLAG_USE = '\t\twants |= shim->channels[i]->flags & BH_CHANNEL_EXAMPLE;\n'

COUNTER_ROW = 'BH_STATISTIC(EXAMPLE, example, CALLS, COUNT, "an example")\n'
CALLBACK_ROW = ('BH_CALLBACK_ROW(PROCESS, 64, PROCESS_EXAMPLE, process_example, DECIDES, file_args, '
                'verdict_reply, IF_UNBEGUN, 0, "an example")\n')
NOTIFICATION_ROW = ('BH_NOTIFICATION_ROW(MODULE, 64, MODULE_EXAMPLE, module_example, none, '
                    '"an example")\n')

PROGRAM = r'''
#include <cstdio>

#include <bulkhead/driver.hpp>

#include "ipc/statistics.h"
#include "shim/core/internal.h"

int main() {
  for (const auto& row : bulkhead::kStatistics) std::puts(row.name);
  bh_callback_set set = bh_set_of(BH_CALLBACK_PROCESS_EXAMPLE);
  const bool apart = bh_set_has(&set, BH_CALLBACK_PROCESS_EXAMPLE) &&
                     !bh_set_has(&set, BH_CALLBACK_FILE_OPEN) &&
                     !bh_set_has(&set, BH_NOTIFY_MODULE_EXAMPLE);
  bh_channel_spec spec;
  bh_channel_spec_default(&spec);
  const bool set_and_valid =
      (spec.flags & BH_CHANNEL_EXAMPLE) != 0 && bh_channel_spec_valid(&spec) != 0;
  std::printf("flag %d\n", set_and_valid);
  std::printf("%s %s %d %d\n", bh_callback_name(BULKHEAD_ON_PROCESS_EXAMPLE),
              bh_notification_name(BULKHEAD_MODULE_EXAMPLE), apart,
              bh_callback_reissue(BH_CALLBACK_PROCESS_EXAMPLE) == BH_REISSUE_IF_UNBEGUN);
  (void)[](bh_channel* channel) { bh_count(channel, 0, BH_COUNT_EXAMPLE); };
}
'''


def product_files():
    for folder in ('ipc', 'shim', 'host'):
        for path in sorted((SOURCES / folder).rglob('*.*')):
            name = path.relative_to(SOURCES).as_posix()
            if path.suffix in ('.c', '.cc', '.h', '.fbs', '.hpp') and not re.search(
                    r'_test\.|/test|/fake_|/played_|/scripted_', name):
                yield name, path.read_text()


class Counters(unittest.TestCase):

    def test_a_counter_is_its_row_and_its_increments(self):
        files = list(product_files())
        for row in vocabulary.rows(SOURCES / 'ipc/abi/statistics.def'):
            upper, name = row[0], row[1]
            use = re.compile(rf'\bBH_COUNT_{upper}\b|\b(?:statistics|one)(?:\.|->){name}\b'
                             rf'(?!\()')
            named = {path for path, text in files if use.search(text)}
            others = {path for path in named
                      if not path.startswith('shim/core/') and name not in READERS.get(path, set())}
            self.assertEqual(others, set(), f'{name}: a counter is a row of statistics.def and '
                             'its increments in shim/core')


class ChannelFlags(unittest.TestCase):

    def test_a_boolean_of_a_channel_is_its_row_and_its_use(self):
        files = list(product_files())
        for row in vocabulary.rows(SOURCES / 'ipc/abi/channel_spec.h',
                                   'define BH_FOR_EACH_CHANNEL_FLAG'):
            use = re.compile(rf'\bBH_CHANNEL_{row[1]}\b|\bX\({row[0]}, {row[1]},')
            named = {path for path, text in files if use.search(text)}
            self.assertLessEqual(len(named), 3, named)


class OneRow(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.tree = Path(cls.folder.name)
        for part in ('ipc', 'shim/core', 'host', 'drivers', 'docs'):
            shutil.copytree(SOURCES / part, cls.tree / part)
        for name, row in (('statistics', COUNTER_ROW), ('callbacks', CALLBACK_ROW),
                          ('notifications', NOTIFICATION_ROW)):
            path = cls.tree / f'ipc/abi/{name}.def'
            text = path.read_text()
            path.write_text(text.replace('/* clang-format on */', row + '/* clang-format on */'))
        path = cls.tree / 'ipc/abi/channel_spec.h'
        path.write_text(path.read_text().replace('\n/* clang-format on */', FLAG_ROW, 1))
        path = cls.tree / 'shim/core/channel.c'
        text = path.read_text()
        at = text.index('\t\twants |= BH_WANTS_CALL;')
        path.write_text(text[:at] + FLAG_USE + text[at:])
        script = SOURCES / 'cmake/dev/vocabulary.py'
        stale = subprocess.run([sys.executable, script, cls.tree, '--check'],
                               stdout=subprocess.PIPE, text=True)
        assert stale.returncode == 1 and 'callbacks.h' in stale.stdout, stale
        subprocess.run([sys.executable, script, cls.tree], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def compiled(self, compiler, *arguments):
        done = subprocess.run([compiler, '-I.', '-Ihost/sdk/include', '-isystem', GENERATED, '-Wall',
                               '-Wextra', '-Werror', *arguments], cwd=self.tree,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_core_compiles(self):
        sources = sorted(str(path.relative_to(self.tree))
                         for path in (self.tree / 'shim/core').glob('*.c'))
        self.compiled(CC, '-std=c11', '-ffreestanding', '-fsyntax-only', *sources)

    def test_host_supervisor_and_drivers_compile(self):
        for source in ('host/process/dispatcher.cc', 'host/process/driver_library.cc',
                       'host/supervisor/manifest.cc', 'drivers/null/null.cc'):
            self.compiled(CXX, '-std=c++20', '-fsyntax-only', source)

    def test_names_sets_and_counters_have_it(self):
        (self.tree / 'program.cc').write_text(PROGRAM)
        self.compiled(CXX, '-std=c++20', 'program.cc', '-o', 'program')
        shown = subprocess.run([self.tree / 'program'], check=True, stdout=subprocess.PIPE,
                               text=True).stdout.split('\n')
        self.assertIn('example', shown)
        self.assertIn('process_example module_example 1 1', shown)
        self.assertIn('flag 1', shown)

    def test_the_pages_have_it(self):
        page = (self.tree / 'docs/reference.md').read_text()
        for name in ('`example`', '`process_example`', '`module_example`', '`example_flag`'):
            self.assertIn(name, page)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
