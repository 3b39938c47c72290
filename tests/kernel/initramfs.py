# SPDX-License-Identifier: Apache-2.0
"""Writes the guest's root file system: a cpio archive in the format 'newc'.

Written here rather than by cpio(1), so that files may be owned by root and devices be made without
being root. Programs have the same paths as on the machine, so that paths compiled into them,
and those of their libraries, are right in the guest too.
"""
import os
import re
import stat
import subprocess
import tempfile

_CONSOLE = (5, 1)


class Initramfs:
    def __init__(self):
        self._entries = {}  # path without leading slash: (mode, content, (major, minor))
        self.folder("dev")
        self._put("dev/console", stat.S_IFCHR | 0o600, b"", _CONSOLE)

    def folder(self, path):
        path = path.strip("/")
        if path and path not in self._entries:
            self.folder(os.path.dirname(path))
            self._put(path, stat.S_IFDIR | 0o755)

    def content(self, path, content, mode=0o644):
        path = path.strip("/")
        self.folder(os.path.dirname(path))
        self._put(path, stat.S_IFREG | mode, content)

    def symlink(self, path, target):
        path = path.strip("/")
        self.folder(os.path.dirname(path))
        self._put(path, stat.S_IFLNK | 0o777, target.encode())

    def file(self, source, path=None, mode=None):
        """Copies SOURCE to its path on the machine, or to PATH, together with its libraries."""
        path = (path or os.path.abspath(source)).strip("/")
        if path in self._entries:
            return
        mode = mode or stat.S_IMODE(os.stat(source).st_mode)
        with open(source, "rb") as file:
            content = file.read()
        is_elf = content.startswith(b"\x7fELF")
        if is_elf and not source.endswith(".ko"):
            content = _without_debug_information(source)
        self.content(path, content, mode)
        if is_elf and not source.endswith(".ko"):
            for library in _libraries(source):
                self.file(library)

    def tree(self, source):
        """Copies a file, or all files of a folder."""
        if not os.path.isdir(source):
            self.file(source)
            return
        self.folder(os.path.abspath(source))
        for folder, _, names in os.walk(source):
            for name in names:
                self.file(os.path.join(folder, name))

    def write(self, target):
        # A folder's name is a prefix of what is in it, so sorting puts it first.
        for inode, (path, (mode, content, device)) in enumerate(sorted(self._entries.items()), 1):
            _write_entry(target, path, inode, mode, content, device)
        _write_entry(target, "TRAILER!!!", 0, 0, b"", (0, 0))

    def _put(self, path, mode, content=b"", device=(0, 0)):
        self._entries[path] = (mode, content, device)


def _write_entry(target, path, inode, mode, content, device):
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    for part in (header + name, content):
        target.write(part + b"\0" * (-len(part) % 4))


def _without_debug_information(source):
    """Debug information is most of a program's size, and the guest holds all files in memory."""
    with tempfile.NamedTemporaryFile(prefix="bulkhead-guest-") as stripped:
        subprocess.run(["strip", "--strip-debug", "-o", stripped.name, source], check=True)
        with open(stripped.name, "rb") as file:  # strip has put another file in its place
            return file.read()


def _libraries(source):
    linked = subprocess.run(["ldd", source], check=False, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout
    missing = re.findall(r"^\s*(\S+) => not found", linked, re.MULTILINE)
    if missing:
        raise FileNotFoundError(f"{source} needs {', '.join(missing)}, which ldd does not find")
    return re.findall(r"(?:^\s*|=> )(/\S+) \(0x", linked, re.MULTILINE)
