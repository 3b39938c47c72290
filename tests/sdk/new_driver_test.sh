#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A vendor's first day: installs everything into a folder, makes a project with `bulkhead new`, builds it with what is
# installed, runs its tests, plainly and with sanitizers, checks it, and lets it answer.
#   new_driver_test.sh CMAKE BUILD_FOLDER
set -eu
cmake=$1
build=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-new-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # a host's own user reads the driver
mkdir "$work/tmp"
TMPDIR=$work/tmp # a test that a sanitizer ends leaves its folder
export TMPDIR

# What a step says is shown when it fails.
step() {
  what=$1
  shift
  "$@" >"$work/output" 2>&1 || {
    code=$?
    cat "$work/output"
    echo "$what: exit code $code"
    exit 1
  }
}

step "install" "$cmake" --install "$build" --prefix "$work/prefix"
bulkhead=$work/prefix/bin/bulkhead
step "new" "$bulkhead" new first-day --in "$work" --callbacks file_open,file_exec
cd "$work/first-day"
step "configure" "$cmake" -S . -B build -DCMAKE_PREFIX_PATH="$work/prefix"
step "build" "$cmake" --build build
step "tests" "$cmake" -E chdir build ctest --output-on-failure
grep -q "1 tests passed\|100% tests passed" "$work/output" || { echo "ctest ran no test"; exit 1; }
step "check" "$bulkhead" check --load build/first-day
grep -q "first-day: nothing is wrong" "$work/output"

mkdir "$work/files"
echo text >"$work/files/clean"
step "scan of a clean folder" "$bulkhead" scan --driver ./build/first-day "$work/files"
echo "a forbidden-word" >"$work/files/bad"
code=0
"$bulkhead" scan --driver ./build/first-day "$work/files" >"$work/output" 2>&1 || code=$?
[ "$code" = 1 ] || { cat "$work/output"; echo "scan: exit code $code, not 1 (found)"; exit 1; }
grep -q "bad: forbidden-word" "$work/output"

# With pkg-config, as a build without CMake has it.
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name bulkhead-testing.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # flags are words
step "pkg-config" c++ -std=c++20 -DDRIVER_FOLDER="\"$work/first-day/build/first-day\"" driver_test.cc -o "$work/by-pkg-config" \
  $(pkg-config --cflags --libs bulkhead-testing)
step "the test by pkg-config" "$work/by-pkg-config"

# A defect that only AddressSanitizer sees: the sanitized test of the same project must see it.
step "configure with sanitizers" "$cmake" -S . -B build-asan -DSANITIZE=ON -DCMAKE_PREFIX_PATH="$work/prefix"
step "build with sanitizers" "$cmake" --build build-asan
step "tests with sanitizers" "$cmake" -E chdir build-asan ctest --output-on-failure
sed 's|const auto bytes = file.map();|std::vector<char> copy(8); const volatile char* at = copy.data(); if (at[8] == 1) return bulkhead::decline(); &|' \
  driver.cc >driver.cc.new
cmp -s driver.cc driver.cc.new && { echo "the template has changed: no defect was put in"; exit 1; }
mv driver.cc.new driver.cc
step "build with a defect" "$cmake" --build build-asan
if build-asan/driver_test >"$work/output" 2>&1; then
  echo "AddressSanitizer did not see the driver"
  exit 1
fi
grep -q "heap-buffer-overflow" "$work/output" || { cat "$work/output"; echo "no report of AddressSanitizer"; exit 1; }
