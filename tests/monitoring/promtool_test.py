#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Prometheus' own tool finds no mistake in the alert rules, and runs the cases of alerts_test.yml.

Usage: promtool_test.py SOURCES CACHE

The tool is the machine's promtool, or else the one of Debian's package prometheus, fetched into CACHE and not
installed: to install the package would start a server. Exit code 77: there is none.
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../cmake/dev"))
from debian_package import Unavailable, download, unpack  # noqa: E402


def fetched(cache):
    """The path of promtool in CACHE."""
    path = os.path.join(cache, "promtool")
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".promtool.") as scratch:
            unpack(download("prometheus", scratch), {"bin/promtool": "promtool"}, scratch)
            made = os.path.join(scratch, "promtool")
            os.chmod(made, 0o755)
            os.replace(made, path)  # whole, even if another process fetches it, too
    return path


def main(sources, cache):
    try:
        promtool = shutil.which("promtool") or fetched(cache)
    except Unavailable as why:
        print(f"SKIPPED: no promtool: {why}")
        return 77
    # Of the last words a lint of promtool's own: names that are twice, annotations.
    checks = (["check", "rules", "--lint-fatal", f"{sources}/packaging/monitoring/bulkhead-alerts.yml"],
              ["test", "rules", f"{sources}/tests/monitoring/alerts_test.yml"])
    return 1 if any([subprocess.run([promtool, *words], check=False).returncode for words in checks]) else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
