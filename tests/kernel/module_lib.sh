# SPDX-License-Identifier: Apache-2.0
# For guest scripts about the kernel module: '. $BULKHEAD_TESTS/module_lib.sh' after /guest/lib.
# BULKHEAD_BUILD is the build folder; BULKHEAD_DEBUG_KERNEL is set on the debug kernel.
bulkhead=$BULKHEAD_BUILD/bin/bulkhead
guarded=/tmp/guarded
mkdir -p $guarded

# expect NAME COMMAND...: passed when the command succeeds.
expect() {
  local name=$1
  shift
  if "$@"; then result passed "$name"; else result failed "$name" "$*"; fi
}
refused() { ! cat "$1" >/dev/null 2>&1; }
loaded() { grep -q '^bulkhead ' /proc/modules; }

# Starts `bulkhead run` with the module; returns when the folder is guarded. Its output is in
# /tmp/run.out.
start() {
  rm -f /tmp/ready
  mkfifo /tmp/ready
  $bulkhead run --attachment module --guard $guarded --ready-fd 3 "$@" >/tmp/run.out 2>&1 3>/tmp/ready &
  supervisor=$!
  read -r _ </tmp/ready || { result failed start "$(cat /tmp/run.out)"; exit 1; }
}
stop() { kill -INT $supervisor && wait $supervisor; }
# The supervisor is dead when it returns.
die() { kill -KILL $supervisor; wait $supervisor; }
# status: what `bulkhead status` says of the instance, which may be too busy to answer the first request.
# Fails when no instance has answered within 20 s.
status() {
  local said until=$(($(now) + 20))
  while :; do
    said=$($bulkhead status 2>&1) && case $said in *' serving, '* | *'generation '*) break ;; esac
    [ "$(now)" -lt $until ] || { echo "bulkhead status: $said" >&2; return 1; }
  done
  echo "$said"
}
# status_says EXPRESSION [DEFAULT]: what the sed expression finds in status. When it finds nothing and
# there is no DEFAULT, and when there is no status, it prints a word that is no number and never twice
# the same: no comparison takes an empty answer for a count.
status_says() {
  local said
  said=$(status) || { echo "no_status_at_$(cut -d ' ' -f 1 /proc/uptime)"; return; }
  says "$said" "$@"
}
# says STATUS EXPRESSION [DEFAULT]: the same in a status that was asked for before.
says() {
  local said=$1 found
  shift
  found=$(echo "$said" | sed -n "$1")
  [ -n "$found" ] || found=$2
  [ -n "$found" ] || { echo "bulkhead status lacks $1: $said" >&2; found=not_in_status_at_$(cut -d ' ' -f 1 /proc/uptime); }
  echo "$found"
}
# counts FIELD...: of the one driver, all of one `bulkhead status`.
counts() {
  local said field all
  said=$(status) || { echo "no_status_at_$(cut -d ' ' -f 1 /proc/uptime)"; return; }
  for field; do all="$all $(says "$said" "s/.* \([0-9]*\) $field.*/\1/p")"; done
  echo ${all}
}
count() { counts "$1"; }
host() { status_says 's/.* pid \([0-9]*\), content.*/\1/p'; }

# make_infected PATH: the EICAR test string, assembled here so that no file of the tree contains it.
make_infected() {
  printf '%s%s' 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR' '-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*' >"$1"
}
# Whole seconds.
now() { cut -d . -f 1 /proc/uptime; }
# quickly COMMAND...: long before a deadline of 60 s.
quickly() {
  local from=$(now)
  "$@" && [ $(($(now) - from)) -lt 30 ]
}

# The number of vmalloc areas of the module.
areas() { grep -c '\[bulkhead\]' /proc/vmallocinfo; }
# becomes NUMBER COMMAND...: the command prints NUMBER soon: the kernel frees some memory a little
# later.
becomes() {
  local wanted=$1 until=$(($(now) + 20))
  shift
  while [ "$("$@")" != "$wanted" ]; do [ "$(now)" -lt $until ] || return 1; done
}
# The end of a script, after the module was unloaded.
finish() { [ -z "$BULKHEAD_DEBUG_KERNEL" ] || ask_checkers; }
