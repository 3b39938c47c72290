#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""What an operator does with Bulkhead's packages, in a Debian 12 guest: install, configure, guard, watch,
give new rules, see a crash loop, have the service die, upgrade, reboot, remove, purge.

Usage: system_test.py --packages FOLDER [--module bulkhead.ko] [--cache FOLDER] [--logs FOLDER]

Each step begins where the one before ended, so the first that fails is the last. Exit codes: 0 all passed,
1 something failed, 77 this machine can't run the guest, and why.
"""
import argparse
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import debian_image
import guest as guests
from kernel_image import Unavailable

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
GUEST_SECONDS_MAX = 480
BOOT_SECONDS_MAX = 200
STEP_SECONDS_MAX = 120
UPGRADED = "+upgraded"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", required=True, metavar="FOLDER", help="with the .debs")
    parser.add_argument("--module", metavar="PATH", help="bulkhead.ko, as dkms would have built it")
    parser.add_argument("--cache", default=os.path.join(HERE, "../../build/system"), metavar="FOLDER")
    parser.add_argument("--kernels", default=os.path.join(HERE, "../../build/kernel"),
                        metavar="FOLDER", help="where kernels are kept")
    parser.add_argument("--logs", metavar="FOLDER", help="keep the consoles of all boots there")
    return parser.parse_args()


def package_in(folder, name):
    found = sorted(glob.glob(os.path.join(folder, f"{name}_*.deb")))
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} packages {name}_*.deb; it must have one")
    return found[0]


def upgraded(package, folder):
    """The same package with a higher version."""
    tree = os.path.join(folder, "upgraded")
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = os.path.join(tree, "DEBIAN/control")
    with open(control, encoding="utf-8") as file:
        lines = file.read().splitlines()
    lines = [line + UPGRADED if line.startswith("Version: ") else line for line in lines]
    with open(control, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    path = os.path.join(folder, "upgraded.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", tree, path], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return path


class Steps:
    def __init__(self, guest, has_module):
        self._guest, self._has_module = guest, has_module

    def boot(self, name):
        taken = self._guest.boot(BOOT_SECONDS_MAX)
        self.step("booted", BOOT_SECONDS_MAX)
        print(f"passed {name}: commands after {taken:.1f} s", flush=True)

    def step(self, name, seconds_max=STEP_SECONDS_MAX):
        result = self._guest.run(
            "mountpoint -q /mnt || mount -o ro /dev/vdb /mnt\n"
            f"HAS_MODULE={int(self._has_module)}\n"
            f". /mnt/steps.sh\nstep_{name}\n", seconds_max)
        if result.code != 0:
            raise guests.GuestError(f"step {name} ended with code {result.code}:\n{result.output}")
        print(f"passed {name} in {result.seconds:.1f} s\n  " +
              "\n  ".join(result.output.strip().splitlines()[-8:]), flush=True)

    def run(self):
        self.boot("boot")
        for name in ("remember", "install", "configure", "refuse", "watch", "crash_loop", "reload",
                     "killed", "upgrade"):
            self.step(name)
        if self._has_module:
            self.step("module")
            self.step("killed")
        else:
            print("SKIPPED module: there is no module for the guest's kernel", flush=True)
        self.step("before_reboot")
        self._guest.wait_for_end(90)
        self.boot("reboot")
        for name in ("after_reboot", "remove", "purge"):
            self.step(name)


def run(options, scratch):
    package = package_in(options.packages, "bulkhead")
    image = debian_image.ensure(os.path.abspath(options.cache), [package])
    has_module = bool(options.module) and os.path.exists(options.module)
    kernel = guests.prepare_kernel(os.path.abspath(options.kernels),
                                   [options.module] if has_module else [])
    files = {"bulkhead.deb": package, "upgraded.deb": upgraded(package, scratch),
             "steps.sh": os.path.join(HERE, "steps.sh")}
    if has_module:
        files["bulkhead.ko"] = options.module
    deadline = time.monotonic() + GUEST_SECONDS_MAX
    with guests.Guest(scratch, kernel, image, files, deadline) as guest:
        try:
            Steps(guest, has_module).run()
        except guests.GuestError as error:
            print(f"FAILED {error}")
            for boot, text in enumerate(guest.consoles(), 1):
                print(f"\n--- console of boot {boot}, last 200 lines ---")
                print("\n".join(line.rstrip("\r") for line in text.splitlines()[-200:]))
            return 1
        finally:
            if options.logs:
                os.makedirs(options.logs, exist_ok=True)
                for boot, text in enumerate(guest.consoles(), 1):
                    with open(os.path.join(options.logs, f"console-{boot}.log"), "w",
                              encoding="utf-8") as file:
                        file.write(text)
    return 0


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    # In the cache: the disk's layer may be larger than what /tmp has.
    os.makedirs(options.cache, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="run-", dir=options.cache) as scratch:
            code = run(options, scratch)
    except Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    print(f"{time.monotonic() - began:.0f} s in all")
    return code


if __name__ == "__main__":
    sys.exit(main())
