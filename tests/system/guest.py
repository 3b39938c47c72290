# SPDX-License-Identifier: Apache-2.0
"""A Debian 12 system in a machine of its own, which does what scripts say as root.

The disk is a copy-on-write layer over an image (debian_image.py); a second one, read-only, brings files
in. A guest can be switched on again after it has switched itself off: what it wrote is there.
"""
import base64
import os
import select
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../kernel"))
import kernel_image  # noqa: E402
import machine  # noqa: E402
from initramfs import Initramfs  # noqa: E402

BUSYBOX = "/bin/busybox"
# What finds the disk, in an order in which they load.
MODULES = ["kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko",
           "kernel/drivers/virtio/virtio_pci_legacy_dev.ko",
           "kernel/drivers/virtio/virtio_pci_modern_dev.ko", "kernel/drivers/virtio/virtio_pci.ko",
           "kernel/drivers/block/virtio_blk.ko", "kernel/lib/crc16.ko", "kernel/fs/mbcache.ko",
           "kernel/fs/jbd2/jbd2.ko", "kernel/crypto/crc32c_generic.ko", "kernel/fs/ext4/ext4.ko"]
# The disk is new, or was unmounted in order.
ARGUMENTS = ["systemd.show_status=yes", "fsck.mode=skip"]


class GuestError(Exception):
    """The guest did not do what it was asked to; the message has what is known."""


class Result:
    def __init__(self, code, output, seconds):
        self.code, self.output, self.seconds = code, output, seconds


def prepare_kernel(cache, modules=()):
    """Debian's kernel for MODULES, with what it needs beside it; raises Unavailable."""
    for program, package in ((machine.QEMU, "qemu-system-x86"), (BUSYBOX, "busybox-static"),
                             ("setpriv", "util-linux"), ("strip", "binutils")):
        if shutil.which(program) is None:
            raise kernel_image.Unavailable(
                f"{program} is not there (package {package}); run ./dev setup")
    version = kernel_image.wanted_version(modules)
    return kernel_image.fetch(version, cache, {os.path.basename(path): path for path in MODULES})


def _write_initramfs(kernel, path):
    root = Initramfs()
    for folder in ("proc", "sys", "modules"):
        root.folder(folder)
    root.file(BUSYBOX)
    root.symlink("bin/sh", "busybox")
    root.file(os.path.join(HERE, "mount_root.sh"), "guest/init", 0o755)
    root.content("init", b"")  # switch_root takes a root without it for no initramfs
    names = [os.path.basename(module) for module in MODULES]
    root.content("guest/modules", "".join(f"{name}\n" for name in names).encode())
    for name in names:
        root.file(os.path.join(os.path.dirname(kernel), name), f"modules/{name}")
    with open(path, "wb") as target:
        root.write(target)


class Guest:
    """Use it in a 'with' statement: at its end the machine is gone, whatever state it is in.

    FOLDER is for disks and logs of this run. FILES (name: path), and the kernel's modules that
    kernel_image.py has, are on the guest's second disk. Every wait ends by DEADLINE of time.monotonic().
    """

    def __init__(self, folder, kernel, image, files, deadline, cpus=2, memory_mib=1024):
        self._folder, self._kernel, self._deadline = folder, kernel, deadline
        self._cpus, self._memory_mib = cpus, memory_mib
        self._machine = self._socket = None
        self._boots = self._scripts = 0
        self._unread = b""
        _write_initramfs(kernel, self._path("initramfs"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                        os.path.abspath(image), self._path("disk")], check=True)
        os.mkdir(self._path("files"))
        modules = {os.path.basename(path): path for path in kernel_image.modules_of(kernel)}
        for name, source in (files | modules).items():
            shutil.copy(source, os.path.join(self._path("files"), name))
        subprocess.run(["mkfs.ext4", "-q", "-d", self._path("files"), self._path("files.ext4"), "64M"],
                       check=True, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def boot(self, seconds_max):
        """Returns the seconds until the guest takes commands."""
        self._end()
        self._boots += 1
        commands = self._path("commands")
        if os.path.exists(commands):
            os.remove(commands)
        logs = self._path(f"boot-{self._boots}")
        os.mkdir(logs)
        self._machine = machine.Machine(
            logs, self._kernel, self._path("initramfs"), self._cpus, self._memory_mib, ARGUMENTS,
            ports=("console",), more=[
                "-chardev", f"socket,id=commands,path={commands},server=on,wait=off",
                "-serial", "chardev:commands",
                "-drive", f"if=virtio,format=qcow2,cache=unsafe,file={self._path('disk')}",
                "-drive", f"if=virtio,format=raw,readonly=on,file={self._path('files.ext4')}"])
        deadline = self._until(seconds_max)
        self._connect(commands, deadline)
        line = self._line(deadline, "to take commands")
        if not line.startswith("ready "):
            raise GuestError(f"the agent said {line!r} instead of 'ready'")
        return self._machine.seconds()

    def run(self, script, seconds_max):
        """The Result of a shell script; raises GuestError where none comes."""
        self._scripts += 1
        began = time.monotonic()
        deadline = self._until(seconds_max)
        text = f"run {self._scripts}\n{base64.encodebytes(script.encode()).decode()}.\n"
        try:
            self._socket.sendall(text.encode())
        except OSError as error:
            raise GuestError(f"the guest takes no commands: {error}") from error
        output = []
        while True:
            line = self._line(deadline, "to end a script: ..." + script[-80:])
            if line.startswith("end "):
                _, number, code = line.split()
                if int(number) != self._scripts:
                    raise GuestError(f"the agent ended script {number}, not {self._scripts}")
                break
            output.append(line)
        text = base64.b64decode("".join(output)).decode(errors="replace")
        return Result(int(code), text, time.monotonic() - began)

    def wait_for_end(self, seconds_max):
        """Until it has switched itself off, as it does instead of a reboot."""
        trouble = self._machine.wait(max(0, self._until(seconds_max) - time.monotonic()))
        if trouble:
            raise GuestError(trouble)

    def consoles(self):
        """What the kernel and systemd said, of each boot."""
        texts = []
        for boot in range(1, self._boots + 1):
            with open(os.path.join(self._path(f"boot-{boot}"), "console.log"), encoding="utf-8",
                      errors="replace") as file:
                texts.append(file.read())
        return texts

    def _until(self, seconds_max):
        return min(self._deadline, time.monotonic() + seconds_max)

    def _connect(self, path, deadline):
        self._unread = b""
        while time.monotonic() < deadline:
            if self._machine.ended():
                raise GuestError(f"{machine.QEMU} ended: {self._machine.read('qemu').strip()}")
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(path)
            except OSError:
                connection.close()
                time.sleep(0.05)  # QEMU has not made it yet
                continue
            connection.settimeout(30)  # of sends
            self._socket = connection
            return
        raise GuestError(f"{machine.QEMU} does not listen at {path}")

    def _line(self, deadline, what):
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise GuestError(f"the guest took too long {what}")
            more = self._socket.recv(65536)
            if not more:
                raise GuestError(f"the guest ended; it was {what}")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    def _end(self):
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._machine:
            self._machine.__exit__()
            self._machine = None

    def _path(self, name):
        return os.path.join(self._folder, name)
