# SPDX-License-Identifier: Apache-2.0
# ./dev bench NAME runs build/release/bin/bench-NAME (or bench-NAME-guest, where there is one) with
# the remaining arguments.

bench_names() {
  find bench -name CMakeLists.txt -exec grep -oh 'bench-[a-z0-9]*' {} + 2>/dev/null |
    sed 's/^bench-//' | sort -u | xargs
}

# The one that needs a kernel of its own runs in a guest.
bench_program() { # NAME
  local program=build/release/bin/bench-$1
  [[ -x $program-guest ]] && program=$program-guest
  echo "$program"
}

bench_main() {
  local name=${1:-} names
  names=$(bench_names)
  [[ -n $name && $name != -* ]] || {
    echo "Usage: ./dev bench NAME [--json FILE] [ARGS]"
    echo "./dev bench NAME --help says more; it builds the benchmark where that is not there yet."
    echo "Names: $names"
    [[ $name == --help || $name == -h ]] && exit 0 || exit 2
  }
  [[ " $names " == *" $name "* ]] || die "there is no benchmark '$name'; there are: $names"
  shift
  if [[ ${1:-} == --help && -x $(bench_program "$name") ]]; then exec "$(bench_program "$name")" --help; fi
  run_setup
  say "building release" >&2
  build_preset release "$(jobs_default)" >&2
  # Not before: a build may add the program, or that of a guest.
  [[ -x $(bench_program "$name") ]] || die "the build made no $(bench_program "$name")"
  exec "$(bench_program "$name")" "$@"
}
