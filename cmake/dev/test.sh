# SPDX-License-Identifier: Apache-2.0
# Every step writes its outcome to the folder $results: ctest's junit files (PRESET.xml), and lines of
# checks.tsv (passed|failed, name, detail) for steps outside ctest, and its time to seconds.tsv
# (step, seconds, seconds of CPU time). summary.py adds it all up.

test_help() {
  cat <<'TEXT'
Usage: ./dev test [kernel | model] [--kernel VERSION] [--long] [--preset P]... [--filter REGEX]
                  [--fuzz-seconds N] [-j N]

Checks formatting, licence lines and the comments of deliberate races, builds the debug kernel (once,
see ./dev kernel-debug), release, asan, tsan, the fuzz targets and their coverage, runs all
tests in each and checks that they left nothing behind. Prints the failed and the skipped tests, with
reasons, the time of each step, and what took longest; the last line reads: N passed, N failed, N skipped.

  kernel            only the tests in a guest with Debian's kernel, of the preset release
  --kernel VERSION  build the module for this kernel, like 6.1.0-56-amd64, and boot that in the guest;
                    installs its headers where they are missing (the newest whose headers are there)
  --long            all tests and steps of the module on the debug kernel, too: a quarter of an hour more; and of
                    the models the sizes that take minutes and gigabytes
  model             only the models of the channel's protocol (tests/model), of the preset release
  --preset P        only this preset; may be given more than once
  --filter REGEX    only tests whose name matches
  --fuzz-seconds N  how long each fuzz target runs (30)
  -j N              parallel jobs (the number of CPUs)
TEXT
}

check_passed() { printf 'passed\t%s\t\n' "$1" >>"$results/checks.tsv"; }
check_failed() { printf 'failed\t%s\t%s\n' "$1" "$2" >>"$results/checks.tsv"; }
# The CPU time of a test that ran beside is counted where it ended.
took() { # STEP BEGAN: the step before it ended when this one began
  local before=${cpu_seconds:-0}
  times >"$run_folder/times" # its second line: user and system time of all processes that have ended
  cpu_seconds=$(awk -F '[ms ]+' 'NR == 2 { printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }' "$run_folder/times")
  printf '%s\t%d\t%d\n' "$1" $((SECONDS - $2)) $((cpu_seconds - before)) >>"$results/seconds.tsv"
}

# run_check NAME ADVICE COMMAND...
run_check() {
  local name=$1 advice=$2 began=$SECONDS
  shift 2
  say "$name"
  if ("$@"); then check_passed "$name"; else check_failed "$name" "$advice"; fi
  took "$name" "$began"
}

# build_tests PRESET JOBS FUZZ_SECONDS: fails when there is nothing to run.
build_tests() {
  local preset=$1 jobs=$2 fuzz_seconds=$3 began=$SECONDS
  say "$preset: build"
  if ! build_preset "$preset" "$jobs" -DBULKHEAD_FUZZ_SECONDS="$fuzz_seconds" \
    -DBULKHEAD_KERNEL="${BULKHEAD_KERNEL:-}" -DBULKHEAD_LONG="$long"; then
    check_failed "build $preset" "the build failed, so none of its tests ran"
    return 1
  fi
  check_passed "build $preset"
  took "build $preset" "$began"
}

# run_ctest PRESET REPORT [CTEST ARGUMENTS]
run_ctest() {
  local preset=$1 report=$2 code=0 wrapper=()
  shift 2
  # clang 14's sanitizers cannot lay out their shadow under more than 28 bits of randomisation.
  if [[ $preset == [at]san && $(</proc/sys/vm/mmap_rnd_bits) -gt 28 ]] 2>/dev/null &&
    setarch --addr-no-randomize true 2>/dev/null; then
    wrapper=(setarch --addr-no-randomize)
  fi
  TMPDIR=$scratch TEST_TMPDIR=$scratch BULKHEAD_TEST_RUN=$run_id "${wrapper[@]}" ctest --preset "$preset" \
    --output-junit "$results/$report.xml" \
    --test-output-size-passed 100000 --test-output-size-failed 1000000 "$@" || code=$?
  [[ $code -eq 0 ]] || printf '%s\t%s\n' "$preset" "$code" >>"$results/ctest-failed.tsv"
}

# run_tests PRESET JOBS [CTEST ARGUMENTS]
run_tests() {
  local preset=$1 jobs=$2 began=$SECONDS
  shift 2
  say "$preset: test"
  # No guest and no measurement is among the sanitizers' tests, and they wait for half of their time.
  [[ $preset != [at]san ]] || jobs=$((jobs + 1))
  run_ctest "$preset" "$preset" --parallel "$jobs" "$@"
  took "test $preset" "$began"
}

test_main() {
  local presets=() filter=() group=() kernel= fuzz_seconds=30 long=OFF jobs
  jobs=$(jobs_default)
  while [[ $# -gt 0 ]]; do
    case $1 in
      kernel | model) group=(-L "^$1\$") presets=(release) && shift ;;
      --kernel) [[ ${2:-} =~ ^[0-9][0-9a-z.+-]*$ ]] || die "--kernel needs a version like 6.1.0-56-amd64"
                kernel=$2 && shift 2 ;;
      --long) long=ON && shift ;;
      --preset) require_preset "${2:-}" && presets+=("$2") && shift 2 ;;
      --filter) [[ -n ${2:-} ]] || die "--filter needs a regular expression"
                filter=(-R "$2" --no-tests=ignore) && shift 2 ;;
      --fuzz-seconds) require_number "$1" "${2:-}" && fuzz_seconds=$2 && shift 2 ;;
      -j) require_number -j "${2:-}" && jobs=$2 && shift 2 ;;
      *) die "test: unknown argument '$1'; ./dev test --help" ;;
    esac
  done
  [[ ${#presets[@]} -gt 0 ]] || presets=(release asan tsan fuzz coverage)

  local began=$SECONDS
  SETUP_ALSO=${kernel:+linux-headers-$kernel} run_setup
  [[ -z $kernel ]] || export BULKHEAD_KERNEL=$kernel
  source cmake/dev/format.sh
  source cmake/dev/licences.sh
  source cmake/dev/races.sh
  source cmake/dev/leftovers.sh
  source cmake/dev/kernel-debug.sh

  # Short: paths of Unix sockets in it must fit into 108 bytes.
  run_folder=$(mktemp -d /tmp/bh-test.XXXXXX)
  results=$run_folder/results
  scratch=$run_folder/tmp
  run_id=${run_folder##*.}
  mkdir "$results" "$scratch"
  # Some tests run a part as the user nobody, which needs access to this folder as to /tmp.
  chmod 711 "$run_folder"
  chmod 1777 "$scratch"
  touch "$results/checks.tsv" "$results/ctest-failed.tsv" "$results/seconds.tsv"
  beside_group= # of the test that runs beside the builds
  trap '[[ -z $beside_group ]] || kill -- "-$beside_group" || true; rm -rf "$run_folder"' EXIT
  took setup "$began"
  leftovers_snapshot "$run_folder/before"

  run_check "formatting" "run ./dev format" format_main --check
  run_check "licence lines" "see above" check_licences
  run_check "deliberate races" "see above" check_races
  # Where it cannot be built, its tests are skipped with the reason.
  if [[ " ${presets[*]} " == *" release "* && ${group[1]:-} != *model* && "kernel.module_debug kernel.debug_checkers" =~ ${filter[1]:-} &&
    -z $(kernel_debug_obstacle) ]]; then
    run_check "debug kernel" "see above" kernel_debug_build "$jobs"
    kernel_debug_clean & # in parallel with the builds
  fi
  # The guest that takes longest keeps little more than one CPU busy. In a run of all tests the other presets
  # are built meanwhile, with a lower priority.
  local preset built=() beside= began_waiting
  for preset in "${presets[@]}"; do
    build_tests "$preset" "$jobs" "$fuzz_seconds" || continue
    built+=("$preset")
    if [[ $preset == release && ${#filter[@]} -eq 0 && ${#group[@]} -eq 0 && ${#presets[@]} -gt 1 ]]; then
      beside='^kernel\.module_debug$'
      say "release: kernel.module_debug begins"
      set -m # a process group of its own, which Ctrl-C ends through the trap
      run_ctest release release-beside -R "$beside" --no-tests=ignore >"$run_folder/beside.log" 2>&1 &
      beside_group=$!
      set +m
      build_priority=(nice)
    fi
  done
  began_waiting=$SECONDS
  wait
  if [[ -n $beside ]]; then
    beside_group=
    cat "$run_folder/beside.log"
    took "kernel.module_debug" "$began_waiting"
  fi
  for preset in "${built[@]}"; do
    if [[ $preset == release && -n $beside ]]; then
      run_tests release "$jobs" -E "$beside"
    else
      run_tests "$preset" "$jobs" "${filter[@]}" "${group[@]}"
    fi
  done
  leftovers_check "$run_folder/before"
  # With only a part of the tests, the specification's other tests would be missing.
  if [[ ${#filter[@]} -eq 0 && ${#group[@]} -eq 0 && " ${presets[*]} " == *" release "*" fuzz "*" coverage "* ]]; then
    run_check "specification" "see above" python3 cmake/dev/specification.py docs/specification.md "$results"/*.xml
  fi

  python3 cmake/dev/summary.py "$results" "$jobs" "${presets[@]}"
}
