#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Runs a shell script as root in a guest with Debian's kernel, and reports the results of its tests.

Exit codes: 0 all passed, 1 something failed, 2 wrong usage, 77 this machine cannot run a guest.
"""
import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile

import kernel_image
import machine
from initramfs import Initramfs
from kernel_image import Unavailable
from results import Results, kernel_trouble

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
LOG_LINES = 1000
SLOWEST = 12  # how many results are named with the time until they came
BUSYBOX = "/bin/busybox"


def named(text):
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest-script", required=True, metavar="FILE",
                        help="run by busybox' sh; '. /guest/lib' gives it guest.sh")
    parser.add_argument("--file", action="append", default=[], metavar="PATH",
                        help="a program, file or folder that the guest has at the same path, with "
                             "the libraries it needs")
    parser.add_argument("--module", action="append", default=[], metavar="PATH",
                        help="a kernel module that the guest finds in /modules if it was built")
    parser.add_argument("--env", action="append", default=[], type=named, metavar="NAME=VALUE")
    parser.add_argument("--bring", action="append", default=[], type=named, metavar="NAME=PATH",
                        help="write what the guest script brings as NAME to PATH")
    parser.add_argument("--cache", default=os.path.join(HERE, "../../build/kernel"),
                        metavar="FOLDER", help="where kernels are kept (build/kernel)")
    parser.add_argument("--debug-kernel", metavar="FOLDER",
                        help="boot the one that ./dev kernel-debug left there, not Debian's")
    parser.add_argument("--logs", metavar="FOLDER", help="keep the logs of all ports there")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS")
    parser.add_argument("--kernel-argument", action="append", default=[], metavar="WORD",
                        help="one more word for the kernel's command line")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=1024)
    return parser.parse_args()


def prepare(cache, debug_kernel=None, modules=()):
    """Returns the kernel's name and path; raises Unavailable where no guest can run."""
    version = None if debug_kernel else kernel_image.wanted_version(modules)
    for program, package in ((machine.QEMU, "qemu-system-x86"), (BUSYBOX, "busybox-static"),
                             ("setpriv", "util-linux"), ("strip", "binutils")):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not there (package {package}); run ./dev setup")
    if debug_kernel:
        return kernel_image.find_debug(debug_kernel)
    return f"Debian's kernel {version}", kernel_image.fetch(version, cache)


def require_modules(paths):
    for path in paths:
        if not os.path.exists(path):
            raise Unavailable(f"{path} was not built; ./dev build makes it now that there is a debug "
                              "kernel")


def build_initramfs(options, kernel, path):
    root = Initramfs()
    for folder in ("proc", "sys", "tmp", "etc", "modules"):
        root.folder(folder)
    root.content("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    root.content("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    root.file(BUSYBOX)
    root.symlink("bin/sh", "busybox")
    root.file(os.path.join(HERE, "init.sh"), "guest/init", 0o755)
    root.file(os.path.join(HERE, "guest.sh"), "guest/lib")
    root.file(options.guest_script, "guest/script")
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in options.env]
    root.content("guest/environment", "".join(exports).encode())
    for source in options.file:
        root.tree(source)
    for source in options.module + kernel_image.modules_of(kernel):
        if os.path.exists(source):
            root.file(source, "modules/" + os.path.basename(source))
    with open(path, "wb") as target:
        root.write(target)


def write_brought(results, wanted):
    for name, path in wanted:
        if name not in results.files:
            results.errors.append(f"the guest brought no file '{name}'")
            continue
        with open(path, "wb") as target:
            target.write(results.files[name])


def tell(results, guest, title):
    words = {"passed": "passed", "failed": "FAILED", "skipped": "SKIPPED"}
    for outcome in results.outcomes:
        print(f"{words[outcome.state]} {outcome.name}" +
              (f": {outcome.detail}" if outcome.detail else ""))
    for error in results.errors:
        print(f"FAILED {title}: {error}")
    if results.booted_s is not None:
        slowest = sorted(results.outcomes, key=lambda outcome: -outcome.seconds)[:SLOWEST]
        print("slowest steps, s: " + ", ".join(f"{o.name} {o.seconds:.0f}" for o in slowest))
        print(f"booted in {results.booted_s:.1f} s of the guest's clock, "
              f"{guest.seconds():.1f} s in all")


def attach_logs(guest):
    for port in machine.PORTS:
        if port == "results":
            continue
        lines = guest.read(port).splitlines()[-LOG_LINES:]
        print(f"\n--- the guest's {port}, last {len(lines)} lines ---")
        print("\n".join(line.rstrip("\r") for line in lines))


def run(options, kernel, scratch):
    initramfs = os.path.join(scratch, "initramfs")
    build_initramfs(options, kernel, initramfs)
    logs = options.logs or scratch
    os.makedirs(logs, exist_ok=True)
    with machine.Machine(logs, kernel, initramfs, options.cpus, options.memory_mib,
                         options.kernel_argument) as guest:
        trouble = guest.wait(options.timeout)
    results = Results(guest.read("results"))
    write_brought(results, options.bring)
    results.errors += [trouble] if trouble else []
    results.errors += [f"its kernel says: {line}" for line in kernel_trouble(guest.read("console"))]
    if not results.outcomes and not results.files:
        results.errors.append("the guest script reported no result")
    tell(results, guest, os.path.basename(options.guest_script))
    if results.errors or any(outcome.state == "failed" for outcome in results.outcomes):
        attach_logs(guest)
        return 1
    # If none of it could run, the test is skipped, not passed.
    if results.outcomes and all(outcome.state == "skipped" for outcome in results.outcomes):
        return SKIPPED
    return 0


def main():
    options = parse_arguments()
    # So that a signal to this program ends its guest too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        name, kernel = prepare(os.path.abspath(options.cache), options.debug_kernel,
                               options.module)
        if options.debug_kernel:
            require_modules(options.module)
    except Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    except ValueError as error:
        print(f"run_guest.py: {error}", file=sys.stderr)
        return 2
    print(f"{name}, {options.cpus} CPUs, without KVM", flush=True)
    with tempfile.TemporaryDirectory(prefix="bulkhead-guest-") as scratch:
        return run(options, kernel, scratch)


if __name__ == "__main__":
    sys.exit(main())
