# SPDX-License-Identifier: Apache-2.0
"""The machine that a guest runs on: QEMU without KVM, so that it runs on every machine.

Serial ports, because Debian's kernel has their driver built in and virtio's only as modules:
ttyS0 the kernel's log and nothing else, ttyS1 the results, ttyS2 the programs' output.
"""
import os
import subprocess
import time

QEMU = "qemu-system-x86_64"
PORTS = ("console", "results", "output")
# The first oops ends the run, with its trace on the console: results after an oops mean nothing.
# Uninterruptible sleep is reported long before the kernel's own two minutes. Without tsc=reliable
# the kernel takes QEMU's two CPUs for unsynchronised and reads every clock from an emulated HPET,
# outside the vDSO; both CPUs use the machine's TSC. no_timer_check: on a busy machine the emulated
# timer fails the kernel's check of it, which panics. kasan_multi_shot: KASAN continues after its
# first report. A socket for each CPU: SeaBIOS' MP table, from which the debug kernel knows them, has
# one CPU of each. slab_nomerge: a module's cache that is destroyed with objects in it is reported.
COMMAND_LINE = ("console=ttyS0 panic=-1 oops=panic sysctl.kernel.hung_task_timeout_secs=20 "
                "sysctl.kernel.printk_ratelimit=0 slab_nomerge no_timer_check tsc=reliable "
                "kasan_multi_shot rdinit=/guest/init")


class Machine:
    """Runs once, in FOLDER, where each port's output is a file. Use it in a 'with' statement.

    MORE are further words of QEMU's command line: disks, ports after PORTS.
    """

    def __init__(self, folder, kernel, initramfs, cpus, memory_mib, kernel_arguments=(),
                 ports=PORTS, more=()):
        self._folder = folder
        # SIGKILL of this process ends the guest too.
        command = ["setpriv", "--pdeathsig", "KILL", QEMU, "-no-user-config", "-nodefaults",
                   "-display", "none", "-no-reboot", "-accel", "tcg,thread=multi", "-cpu", "max",
                   "-smp", f"{cpus},sockets={cpus}", "-m", str(memory_mib), "-kernel", kernel,
                   "-initrd", initramfs, "-append",
                   " ".join([COMMAND_LINE, *kernel_arguments])]
        for port in ports:
            open(self._path(port), "wb").close()  # or the output of an earlier run could be taken
                                                  # for this one's
            command += ["-serial", f"file:{self._path(port)}"]
        command += more
        with open(self._path("qemu"), "wb") as errors:
            self._began = time.monotonic()
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors,
                                             stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def wait(self, seconds_max):
        """Returns None when the guest switched itself off, else the error."""
        try:
            code = self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            return f"the guest did not end within {seconds_max} s"
        return None if code == 0 else f"{QEMU} ended with code {code}: {self.read('qemu').strip()}"

    def ended(self):
        return self._process.poll() is not None

    def seconds(self):
        return time.monotonic() - self._began

    def read(self, port):
        with open(self._path(port), encoding="utf-8", errors="replace", newline="\n") as file:
            return file.read()

    def _path(self, port):
        return os.path.join(self._folder, port + ".log")
