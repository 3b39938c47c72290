# SPDX-License-Identifier: Apache-2.0
"""Counts the files that know an attachment by name, outside the attachment's own folders.

Usage: mentions_test.py ROOT

An attachment is folders of its own and a row (docs/adding-an-attachment.md). A file elsewhere that
names one in its code (comments and tests do not count) must be listed below with the reason; a listed
file that does not name it any more must be taken from the list. For the example `inbox`, that is the
file with its row. Exit status 1 when a list is wrong.
"""
import os
import re
import sys

ROW = {
    "host/attachment/registry.cc": "its row",
    "host/attachment/CMakeLists.txt": "its folder",
}

# name: (how code names it, folders of its own, other files with the reason)
ATTACHMENTS = {
    "fanotify": (r"fanotify", ("host/attachment/fanotify/", "shim/fanotify/", "ipc/fanotify/"), {
        **ROW,
        "CMakeLists.txt": "its folders",
        "host/cli/CMakeLists.txt": "the shim's program is built with bulkhead",
        "host/process/system_call_filter.cc": "a system call of that name is refused",
    }),
    "module": (r"abi/module\.h|attachment/module|shim/module|module_link|\bBH_MODULE|\bkModule|ModuleLink|\"module\"",
               ("host/attachment/module/", "shim/module/", "ipc/abi/module.h"), {
        **ROW,
        "CMakeLists.txt": "its folder",
        "host/attachment/transports.cc": "the row of its transport",
        "host/cli/eject.cc": "the command that stops the module, whatever its supervisor does",
    }),
    "embedded": (r"attachment[/_]embedded|\bkEmbedded|EmbeddedShim|EmbeddedAttachment|\"embedded\"",
                 ("host/attachment/embedded/", "shim/embedded/"), {
        "host/attachment/registry.cc": "its row",
        "host/attachment/CMakeLists.txt": "its folder",
        "host/cli/doctor.cc": "plays the kernel for one call",
        "host/cli/check.cc": "plays the kernel for no call",
        "host/cli/scan.cc": "plays the kernel",
        "host/harness/harness.cc": "a test plays the kernel",
        "host/harness/harness.h": "a test plays the kernel",
        "tests/attachment/inbox/inbox_attachment.cc": "has its shim in its own process",
    }),
    "inbox": (r"attachment/inbox|\binbox/|\bkInbox|\"inbox\"", ("tests/attachment/inbox/",), {
        "tests/attachment/main.cc": "its row",
        "tests/attachment/CMakeLists.txt": "its folder",
    }),
}

SOURCES = (".h", ".c", ".cc", ".def", ".fbs", "CMakeLists.txt")
C_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
CMAKE_COMMENT = re.compile(r"(?m)#.*$")


def code_of(root):
    """{path: text without comments}"""
    paths = ["CMakeLists.txt"]
    for top in ("ipc", "shim", "host", "tests/attachment"):
        for where, _, names in os.walk(os.path.join(root, top)):
            paths += [os.path.relpath(os.path.join(where, name), root)
                      for name in names if name.endswith(SOURCES)]
    code = {}
    for path in paths:
        if "_test." in path or "/testing/" in path:
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            comment = CMAKE_COMMENT if path.endswith(".txt") else C_COMMENT
            code[path] = comment.sub("", file.read())
    return code


def main():
    code = code_of(sys.argv[1])
    wrong = 0
    for name, (pattern, own, listed) in ATTACHMENTS.items():
        found = {path for path, text in code.items()
                 if re.search(pattern, text) and not path.startswith(own)}
        print(f"{name}: {len(found)} files outside {', '.join(own)}")
        for path in sorted(found - set(listed)):
            print(f"{path}: names the attachment '{name}': ask its row instead, or list the file with a reason")
        for path in sorted(set(listed) - found):
            print(f"{path}: does not name the attachment '{name}' any more: take it from the list")
        wrong += len(found ^ set(listed))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
