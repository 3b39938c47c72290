# SPDX-License-Identifier: Apache-2.0

fuzz_help() {
  cat <<'TEXT'
Usage: ./dev fuzz [TARGET] [--seconds N] [-j N]
       ./dev fuzz --coverage [-j N]

Builds the preset fuzz and runs TARGET, or every target, for N seconds each (60). Seeds are in
tests/fuzz/corpus/TARGET; findings go to build/fuzz/findings/TARGET, and
build/fuzz/bin/fuzz/TARGET FILE repeats one of them.

With --coverage builds the preset coverage, runs the seeds once, and prints for each file that
validates a peer's bytes how many of its branches they take; fails when one is not taken.
TEXT
}

fuzz_targets() {
  grep -oP '^bulkhead_fuzzer\(\K\w+' tests/fuzz/CMakeLists.txt | xargs
}

fuzz_main() {
  local target= seconds=60 coverage= jobs targets
  jobs=$(jobs_default)
  while [[ $# -gt 0 ]]; do
    case $1 in
      --seconds) require_number --seconds "${2:-}" && seconds=$2 && shift 2 ;;
      --coverage) coverage=1 && shift ;;
      -j) require_number -j "${2:-}" && jobs=$2 && shift 2 ;;
      -*) die "fuzz: unknown option '$1'; ./dev fuzz --help" ;;
      *) target=$1 && shift ;;
    esac
  done
  targets=$(fuzz_targets)
  [[ -z $target || " $targets " == *" $target "* ]] ||
    die "there is no fuzz target '$target'; there are: $targets"
  [[ -z $coverage || -z $target ]] || die "fuzz: --coverage is about all targets"
  run_setup
  if [[ -n $coverage ]]; then
    build_preset coverage "$jobs" && ctest --preset coverage --verbose
    return
  fi
  build_preset fuzz "$jobs" -DBULKHEAD_FUZZ_SECONDS="$seconds"
  if ! ctest --preset fuzz --parallel "$jobs" --verbose ${target:+-R "^fuzz\\.$target\$"}; then
    find build/fuzz/findings -type f -printf 'finding: %p\n'
    return 1
  fi
}
