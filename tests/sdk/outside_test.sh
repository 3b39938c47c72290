#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A vendor's view: installs the SDK into a folder, builds a driver outside the tree with CMake's find_package and
# another with pkg-config, and lets both answer for a file.
#   outside_test.sh CMAKE BUILD_FOLDER SOURCE_FOLDER
set -eu
cmake=$1
build=$2
source=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-sdk-XXXXXX")
trap 'rm -rf "$work"' EXIT

"$cmake" --install "$build" --component sdk --prefix "$work/prefix" >/dev/null
"$cmake" -S "$source" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
"$cmake" --build "$work/build" >/dev/null

mkdir -p "$work/by-pkg-config" "$work/files"
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name bulkhead.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # flags are words
c++ -std=c++20 -shared -fPIC $(pkg-config --cflags bulkhead) \
  "$source/no_scripts.cc" -o "$work/by-pkg-config/no-scripts.so"
cp "$source/manifest.json" "$work/by-pkg-config/"

echo text >"$work/files/note.txt"
for driver in "$work/build/no-scripts" "$work/by-pkg-config"; do
  rm -f "$work/files/run.sh"
  "$build/bin/bulkhead" scan --driver "$driver" "$work/files" || { echo "$driver: a clean folder is not clean"; exit 1; }
  echo text >"$work/files/run.sh"
  code=0
  "$build/bin/bulkhead" scan --driver "$driver" "$work/files" || code=$?
  [ "$code" = 1 ] || { echo "$driver: exit code $code, not 1 (found)"; exit 1; }
done
