#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""The disk of a Debian 12 system, made by debootstrap from the mirror that this machine's apt uses.

Usage: debian_image.py CACHE PACKAGE.deb...

The image has what the packages depend on, but not the packages: the guest installs them without a
network. It is made once and kept in CACHE under a name that has what went into it; a run writes to
a copy-on-write layer of its own. Debian's packages are as new as on the day of the first run:
remove CACHE for newer ones. Exit codes: 0 there is an image, 77 this machine can't make one, and why.
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../kernel"))
from kernel_image import Unavailable  # noqa: E402

SUITE = "bookworm"
SKIPPED = 77
SIZE = "3G"  # of the file system; the image has holes where it is empty
MAKE_SECONDS_MAX = 900
# What a Debian installation has and debootstrap's smallest does not: an init, devices, AppArmor.
# man pages and completion are looked at as files.
BASE = ["systemd-sysv", "udev", "kmod", "apparmor"]
UNIT = "bulkhead-test-agent.service"
PARTS = [os.path.basename(__file__), "agent.sh", UNIT]
PROGRAMS = {"debootstrap": "debootstrap", "mkfs.ext4": "e2fsprogs", "qemu-img": "qemu-utils",
            "unshare": "util-linux", "dpkg-deb": "dpkg"}

# Runs in a mount namespace of its own: what debootstrap mounts ends with it. In memory, dpkg's
# many calls of fsync cost nothing.
MAKE = r"""
set -eu
root=$1 suite=$2 mirror=$3 include=$4 image=$5 size=$6 agent=$7 unit=$8
mount -t tmpfs -o size=2g,mode=0755 tmpfs "$root" || echo "no tmpfs: made on the disk" >&2
debootstrap --variant=minbase --include="$include" "$suite" "$root" "$mirror"
chroot "$root" apt-get clean
umount -R "$root/proc" "$root/sys" 2>/dev/null || true  # where debootstrap has left one
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/bootstrap.log
echo bulkhead-guest >"$root/etc/hostname"
: >"$root/etc/fstab"
install -m 755 "$agent" "$root/usr/local/sbin/bulkhead-test-agent"
install -m 644 "$unit" "$root/etc/systemd/system/"
ln -s "../$(basename "$unit")" "$root/etc/systemd/system/multi-user.target.wants/"
# What a boot does not need here: consoles without a keyboard, timers, checks of a disk that is new.
for other in getty.target getty-static.service serial-getty@ttyS0.service apt-daily.timer \
  apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  systemd-update-utmp-runlevel.service; do
  ln -s /dev/null "$root/etc/systemd/system/$other"
done
mkfs.ext4 -q -L root -d "$root" "$image" "$size"
"""


def _mirror():
    """Where this machine's apt gets Debian 12 from."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(CODENAME) $(COMPONENT)",
         "Created-By: Packages"], check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL).stdout
    for line in targets.splitlines():
        uri, *names = line.split()
        if names == ["Debian", SUITE, "main"]:
            return uri
    raise Unavailable(f"apt has no source of Debian's {SUITE}, or no list of it: run apt-get update")


def _proxy_environment():
    """debootstrap's wget does not read apt's configuration."""
    dump = subprocess.run(["apt-config", "dump", "Acquire::http::Proxy"], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    proxy = re.search(r'^Acquire::http::Proxy "(\S+)";', dump, re.MULTILINE)
    return dict(os.environ, **({"http_proxy": proxy.group(1)} if proxy else {}))


def _dependencies(packages):
    """The names that PACKAGES depend on, without each other; of alternatives the first."""
    names, own = set(), set()
    for package in packages:
        fields = subprocess.run(["dpkg-deb", "-f", package, "Package", "Pre-Depends", "Depends"],
                                check=True, text=True, stdout=subprocess.PIPE).stdout
        for line in fields.splitlines():
            field, _, value = line.partition(": ")
            if field == "Package":
                own.add(value)
                continue
            names.update(re.match(r"\s*([^\s:(|]+)", one).group(1) for one in value.split(","))
    return sorted(names - own)


def _key(include):
    digest = hashlib.sha256(SUITE.encode() + " ".join(include).encode())
    for part in PARTS:
        with open(os.path.join(HERE, part), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def _make(include, image):
    if os.geteuid() != 0:
        raise Unavailable("debootstrap needs root")
    with tempfile.TemporaryDirectory(prefix="bulkhead-image-") as root:
        new = image + ".new"
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", MAKE, "make",
                   root, SUITE, _mirror(), ",".join(include), new, SIZE,
                   os.path.join(HERE, "agent.sh"), os.path.join(HERE, UNIT)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              env=_proxy_environment()) as maker:
            try:
                output, _ = maker.communicate(timeout=MAKE_SECONDS_MAX)
            except subprocess.TimeoutExpired as slow:
                raise Unavailable(f"debootstrap did not end within {MAKE_SECONDS_MAX} s") from slow
            finally:
                maker.kill()  # with it all in its process namespace
    if maker.returncode != 0:
        if os.path.exists(new):
            os.remove(new)
        raise Unavailable("debootstrap failed:\n" + "\n".join(output.splitlines()[-15:]))
    os.rename(new, image)


def ensure(cache, packages):
    """The path of an image for PACKAGES, made where CACHE has none; raises Unavailable."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not there (package {package}); run ./dev setup")
    include = sorted(set(BASE + _dependencies(packages)))
    os.makedirs(cache, exist_ok=True)
    image = os.path.join(cache, f"debian-12-{_key(include)}.ext4")
    with open(os.path.join(cache, "lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds of this tree share the cache
        if not os.path.exists(image):
            _make(include, image)
            for other in glob.glob(os.path.join(cache, "debian-12-*")):
                if other != image:
                    os.remove(other)  # what still runs from it keeps it open
    return image


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        print(ensure(os.path.abspath(sys.argv[1]), sys.argv[2:]))
    except Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
