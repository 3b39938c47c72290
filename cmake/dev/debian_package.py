# SPDX-License-Identifier: Apache-2.0
"""Files of a Debian package that is not installed: fetched through apt, which checks its hashes.

For what tests need and a machine must not have: a kernel with a boot loader's triggers, a program whose package
starts a service.
"""
import glob
import lzma
import os
import subprocess
import tarfile

DOWNLOAD_SECONDS_MAX = 150


class Unavailable(Exception):
    """This machine cannot have the files; the message says why and what to do."""


def download(package, folder, advice="apt-get update may help"):
    """The path of PACKAGE's file, fetched into FOLDER."""
    try:
        apt = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=False,
                             text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=DOWNLOAD_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"apt-get download {package}: {error}") from error
    packages = glob.glob(os.path.join(folder, "*.deb"))
    if apt.returncode != 0 or len(packages) != 1:
        errors = [line for line in apt.stdout.splitlines() if line.startswith("E:")]
        raise Unavailable(f"'apt-get download {package}' failed: "
                          f"{' '.join(errors) or 'it fetched nothing'} ({advice})")
    return packages[0]


def unpack(package, wanted, folder):
    """Extracts each path of WANTED, below / or /usr, to its name, as a stream: a kernel's modules have 400 MB."""
    missing = dict(wanted)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as unpacker:
        with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
            for member in archive:
                path = member.name.removeprefix("./").removeprefix("usr/").removesuffix(".xz")
                if path not in missing or not member.isfile():
                    continue
                content = archive.extractfile(member).read()
                with open(os.path.join(folder, missing.pop(path)), "wb") as target:
                    target.write(lzma.decompress(content) if member.name.endswith(".xz")
                                 else content)
                if not missing:
                    break
        unpacker.kill()  # it may block writing the remainder of the package
    if missing:
        raise Unavailable(f"{os.path.basename(package)} has no {' or '.join(sorted(missing))}")
