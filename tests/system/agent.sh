#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the guest: runs the scripts that come over the port of commands, as root, one after the other,
# and answers with their output and exit code. A script comes as lines of base64 with a last line ".".
set -u
port=/dev/ttyS1
stty -F "$port" raw -echo
exec 3<>"$port"
mkdir -p /run/bulkhead-test
echo "ready $(cut -d ' ' -f 1 /proc/uptime)" >&3
while read -r word id <&3; do
  [[ $word == run ]] || continue
  # No subshell may read: bash reads ahead, and each process has a buffer of its own.
  script=
  while read -r line <&3 && [[ $line != . ]]; do
    script+=$line$'\n'
  done
  base64 --decode <<<"$script" >/run/bulkhead-test/script
  # What a script starts and leaves running has other descriptors than these.
  bash /run/bulkhead-test/script </dev/null >/run/bulkhead-test/output 2>&1 3>&-
  code=$?
  base64 /run/bulkhead-test/output >&3
  echo "end $id $code" >&3
done
