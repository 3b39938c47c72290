#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lintian finds no error and no warning in the packages of FOLDER, but for the overrides in
# packaging/debian, each with its reason; an override that is of no use is a finding.
set -eu
folder=$1
command -v lintian >/dev/null || { echo 'SKIPPED: lintian is not there (package lintian)'; exit 77; }
# It leaves files of its own.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-lintian-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
output=$(lintian --allow-root --tag-display-limit 0 --fail-on error,warning "$folder"/*.deb) || {
  echo "$output"
  exit 1
}
unused=$(lintian --allow-root --tags unused-override,mismatched-override --display-info --pedantic "$folder"/*.deb)
[ -z "$unused" ] || { echo "$unused"; exit 1; }
