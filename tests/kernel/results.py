# SPDX-License-Identifier: Apache-2.0
"""The results of a guest, and the faults in its kernel's log.

The result port carries lines of fields between tabs, and nothing else:
    booted    SECONDS               the guest script begins; by the clock of the guest's kernel
    passed    NAME    DETAIL    SECONDS    by the same clock
    failed    NAME    REASON    SECONDS
    skipped   NAME    REASON    SECONDS
    file      NAME    BASE64        a file from the guest
    end       CODE                  the guest script's exit code; the last line
A guest can die at any byte: only a complete line counts, and a run without its 'end' has failed.
"""
import base64
import binascii
import collections
import re

# seconds: since the result before it.
Outcome = collections.namedtuple("Outcome", "state name detail seconds")

# 'traps: NAME[1] general protection fault ip:' is a crashed process, as with the tests' drivers; a
# fault of the kernel reads 'general protection fault, probably for ...' or ': 0000 [#1]'.
KERNEL_TROUBLE = re.compile(
    r"BUG:|BUG at |BUG \S+ \(|WARNING:|KASAN|KFENCE:|UBSAN:|ODEBUG:|new suspected memory leaks|"
    r"lockdep is turned off|non-static key|Oops|Kernel panic|"
    r"general protection fault(?! ip:)|INFO: task .* blocked|soft lockup|hard LOCKUP|"
    r"detected (expedited )?stall")


class Results:
    def __init__(self, text):
        self.booted_s = None
        self._last_s = 0.0
        self.outcomes = []
        self.files = {}
        self.code = None
        self.errors = []
        *lines, rest = text.split("\n")
        for line in lines:
            try:
                self._read(line.rstrip("\r").split("\t"))
            except ValueError:
                self.errors.append(f"not a line of results: {line[:200]!r}")
        if rest:
            self.errors.append(f"the results break off at {rest[:200]!r}")
        if self.code is None:
            self.errors.append("the guest did not reach its end")
        elif self.code != 0:
            self.errors.append(f"the guest script ended with code {self.code}")

    def _read(self, fields):
        if self.code is not None:
            raise ValueError("after the end")
        kind, *values = fields
        if kind in ("passed", "failed", "skipped"):
            name, detail, at_s = values
            self.outcomes.append(Outcome(kind, name, detail, float(at_s) - self._last_s))
            self._last_s = float(at_s)
        elif kind == "file":
            name, content = values
            try:
                self.files[name] = base64.b64decode(content, validate=True)
            except binascii.Error as error:
                raise ValueError(str(error)) from error
        elif kind == "booted":
            self.booted_s = self._last_s = float(*values)
        elif kind == "end":
            self.code = int(*values)
        else:
            raise ValueError("an unknown kind")


def kernel_trouble(log):
    """The lines of a kernel's log that report a fault."""
    return [line.strip() for line in log.splitlines() if KERNEL_TROUBLE.search(line)]
