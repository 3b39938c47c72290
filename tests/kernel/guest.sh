# SPDX-License-Identifier: Apache-2.0
# Functions with which a guest script reports its results: '. /guest/lib' at its start. The script's
# output is shown when the run fails; results.py has the lines of the result port.

one_line() { tr '\t\n' '  ' | cut -c 1-300; }

# result passed|failed|skipped NAME [DETAIL]
result() {
  local detail= at
  [ -z "${3:-}" ] || detail=$(printf %s "$3" | one_line)
  read -r at _ </proc/uptime
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$detail" "$at" >/dev/ttyS1
}

# bring NAME PATH: sends a file out of the guest.
bring() { printf 'file\t%s\t%s\n' "$1" "$(base64 "$2" | tr -d '\n')" >/dev/ttyS1; }

# run_program NAME SECONDS COMMAND...: passed when it ends with 0 in time. Its output is in
# /tmp/NAME.out.
run_program() {
  local name=$1 seconds=$2 code=0 reason
  shift 2
  echo "== $name"
  timeout -s KILL "$seconds" "$@" >"/tmp/$name.out" 2>&1 || code=$?
  cat "/tmp/$name.out"
  case $code in
    0) return 0 ;;
    137 | 143) result failed "$name" "killed: it crashed, or took longer than $seconds s" ;;
    *)
      reason=$(grep -m 1 -E ':[0-9]+: Failure$' "/tmp/$name.out" || {
        grep -E '^\[ RUN ' "/tmp/$name.out" | tail -n 1
        tail -n 3 "/tmp/$name.out"
      })
      result failed "$name" "code $code; $reason"
      ;;
  esac
  return 1
}

# run_test NAME SECONDS COMMAND...
run_test() { ! run_program "$@" || result passed "$1"; }

# run_gtest NAME SECONDS PROGRAM...: reports how many of its tests ran, and why others did not.
run_gtest() {
  run_program "$@" || return 0
  local passed skipped reasons
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "/tmp/$1.out")
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "/tmp/$1.out")
  reasons=$(grep -A 1 -E ':[0-9]+: Skipped$' "/tmp/$1.out" | grep -v -E ': Skipped$|^--$' | sort -u)
  if [ "${passed:-0}" -gt 0 ]; then
    result passed "$1" "$passed tests${skipped:+, $skipped skipped: $reasons}"
  elif [ "${skipped:-0}" -gt 0 ]; then
    result skipped "$1" "all $skipped tests: $reasons"
  else
    result failed "$1" "it ran no test"
  fi
}

# On the debug kernel, at the end. Its checkers report to the console, which run_guest.py reads; two
# report only on request.
ask_checkers() {
  mount -t debugfs debugfs /sys/kernel/debug
  # The leak detector reports memory that no pointer refers to, that is older than five seconds, and
  # that has not changed since its previous scan.
  sleep 6
  echo scan >/sys/kernel/debug/kmemleak
  echo scan >/sys/kernel/debug/kmemleak
  cat /sys/kernel/debug/kmemleak >/tmp/leaks
  cat /tmp/leaks
  if [ -s /tmp/leaks ]; then
    result failed nothing_leaked "$(grep -c '^unreferenced' /tmp/leaks) objects; see the output"
  else
    result passed nothing_leaked
  fi
  # It switches itself off after its first report, or when its tables are full.
  if grep -q '^ debug_locks: *1$' /proc/lockdep_stats; then
    result passed locks_were_watched
  else
    result failed locks_were_watched "$(cat /proc/lockdep_stats)"
  fi
}
