#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the packages in FOLDER, twice: the second time they must be the same, byte by byte.
# Arguments: cpack, the build folder, FOLDER.
set -eu
cpack=$1 build=$2 folder=$3
command -v dpkg-shlibdeps >/dev/null || { echo 'SKIPPED: dpkg-shlibdeps is not there (package dpkg-dev)'; exit 77; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1700000000}
umask 022
for run in first second; do
  "$cpack" -G DEB --config "$build/CPackConfig.cmake" -B "$scratch/$run" >"$scratch/log" ||
    { cat "$scratch/log"; exit 1; }
done
[ "$(ls "$scratch"/first/*.deb | wc -l)" = 3 ]
for package in "$scratch"/first/*.deb; do
  cmp "$package" "$scratch/second/${package##*/}"
done
rm -f "$folder"/*.deb
mkdir -p "$folder"
mv "$scratch"/first/*.deb "$folder"
