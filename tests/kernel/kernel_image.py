# SPDX-License-Identifier: Apache-2.0
"""A guest's kernel: Debian's, fetched through apt, which checks its hashes, and never installed; or
the debug kernel, which ./dev kernel-debug has built from Debian's sources.

To install the image would run a boot loader's triggers and could change the machine's own kernel.
"""
import glob
import os
import platform
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../cmake/dev"))
from debian_package import Unavailable, download, unpack  # noqa: E402

# 6.1.0-56-amd64, 6.12.117+deb12-amd64; not the flavours rt and cloud, nor the headers' common half.
# Beside the kernel, for tests that load them; the debug kernel has them built in.
MODULES = {"overlay.ko": "kernel/fs/overlayfs/overlay.ko"}
VERSION = re.compile(r"\d[\d.]*(\+[a-z\d]+)?(-\d+)?-amd64")


def _age(version):
    return [int(number) for number in re.findall(r"\d+", version.removesuffix("-amd64"))]


def _built_for(module):
    """The kernel that a module was built for; it can't be loaded into another."""
    with open(module, "rb") as file:
        found = re.search(rb"\0vermagic=(\S+)", file.read())
    return found.group(1).decode() if found else None


def wanted_version(modules=()):
    """The requested version, else that of the modules, else the newest with headers."""
    asked = os.environ.get("BULKHEAD_KERNEL")
    if asked:
        if not VERSION.fullmatch(asked):
            raise ValueError(f"BULKHEAD_KERNEL={asked} is not a version like 6.1.0-56-amd64")
        known = subprocess.run(["apt-cache", "show", f"linux-image-{asked}"], check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if known.returncode != 0:
            raise ValueError(f"BULKHEAD_KERNEL={asked}: apt knows no package linux-image-{asked}; "
                             "'apt-cache search linux-image' lists what there is")
        return asked
    if platform.machine() != "x86_64":
        raise Unavailable(f"the guest is an x86-64 machine, and this one is {platform.machine()}")
    for module in modules:
        if os.path.exists(module):
            return _built_for(module)
    versions = [path.rpartition("linux-headers-")[2]
                for path in glob.glob("/usr/src/linux-headers-*-amd64")]
    versions = [version for version in versions if VERSION.fullmatch(version)]
    if not versions:
        raise Unavailable("no kernel headers are installed; run ./dev setup")
    return max(versions, key=_age)


def fetch(version, cache, modules=None):
    """The path of the kernel VERSION, fetched into CACHE/VERSION on first use.

    MODULES names more of its modules that are to lie beside it, as MODULES above.
    """
    folder = os.path.join(cache, version)
    kernel = os.path.join(folder, f"vmlinuz-{version}")
    wanted = {f"boot/{name}-{version}": f"{name}-{version}" for name in ("vmlinuz", "config")}
    wanted |= {f"lib/modules/{version}/{path}": name
               for name, path in (MODULES | (modules or {})).items()}
    if all(os.path.exists(os.path.join(folder, name)) for name in wanted.values()):
        return kernel
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{version}.") as scratch:
        ready = os.path.join(scratch, "ready")
        os.mkdir(ready)
        package = download(f"linux-image-{version}", scratch, "where the archive has moved on: "
                           "apt-get update, then install linux-headers-amd64")
        unpack(package, wanted, ready)
        for name in wanted.values():  # each whole, even if another process fetches it, too
            os.replace(os.path.join(ready, name), os.path.join(folder, name))
    return kernel


def modules_of(kernel):
    """The paths of the kernel's own modules in MODULES; none, where they are built in."""
    paths = [os.path.join(os.path.dirname(kernel), name) for name in MODULES]
    return [path for path in paths if os.path.exists(path)]


def find_debug(folder):
    """The name and path of the debug kernel in FOLDER."""
    kernel = os.path.join(folder, "bzImage")
    if not os.path.exists(kernel):
        source = "linux-source-6.1"
        lacking = "" if glob.glob(f"/usr/src/{source}.tar.*") else f", which is not installed"
        raise Unavailable(f"there is no debug kernel; ./dev kernel-debug builds it from the package "
                          f"{source}{lacking}")
    return f"the debug kernel {os.path.basename(os.path.realpath(folder))}", kernel
