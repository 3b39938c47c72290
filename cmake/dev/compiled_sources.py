# SPDX-License-Identifier: Apache-2.0
"""Prints the sources of a compile_commands.json that are in the tree (not in the build folder)."""
import json
import os
import sys

commands_path = os.path.abspath(sys.argv[1])
build = os.path.dirname(commands_path) + os.sep
root = os.getcwd() + os.sep
with open(commands_path, encoding="utf-8") as file:
    sources = {os.path.join(entry["directory"], entry["file"]) for entry in json.load(file)}
for source in sorted(map(os.path.normpath, sources)):
    if source.startswith(root) and not source.startswith(build):
        print(os.path.relpath(source, root))
