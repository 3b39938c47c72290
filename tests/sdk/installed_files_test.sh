#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `cmake --install` brings the files of installed_files.txt and no other: no fake, no program of the
# tests, nothing that a compiler or CMake left. Of the pages in docs/, all: they link to each other.
#   installed_files_test.sh CMAKE BUILD_FOLDER LIST LIBDIR DOCS
set -eu
work=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-install-XXXXXX")
trap 'rm -rf "$work"' EXIT

"$1" --install "$2" --prefix "$work/prefix" >/dev/null
{
  grep -v '^#' "$3" | sed "s|^@LIBDIR@|$4|"
  (cd "$5" && find . -name '*.md') | sed 's|^\./|share/doc/bulkhead/|'
} | LC_ALL=C sort >"$work/wanted"
(cd "$work/prefix" && find . ! -type d | sed 's|^\./||' | LC_ALL=C sort) >"$work/installed"
diff -u "$work/wanted" "$work/installed" || {
  echo "cmake --install brings other files (+) or lacks some (-); see tests/sdk/installed_files.txt"
  exit 1
}
