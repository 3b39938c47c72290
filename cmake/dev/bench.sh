# SPDX-License-Identifier: Apache-2.0
# ./dev bench NAME runs build/release/bin/bench-NAME (or bench-NAME-guest, where there is one) with
# the remaining arguments.

bench_main() {
  local name=${1:-} program
  [[ -n $name && $name != -* ]] || {
    echo "Usage: ./dev bench NAME [--json FILE] [ARGS]"
    echo "./dev bench NAME --help says more; it builds the benchmark where that is not there yet."
    echo "Names: $(find bench -name CMakeLists.txt -exec grep -oh 'bench-[a-z0-9]*' {} + 2>/dev/null |
      sed 's/^bench-//' | sort -u | xargs)"
    [[ $name == --help || $name == -h ]] && exit 0 || exit 2
  }
  shift
  program=build/release/bin/bench-$name
  if [[ ${1:-} == --help && -x $program ]]; then exec "$program" --help; fi
  run_setup
  say "building release" >&2
  build_preset release "$(jobs_default)" >&2
  [[ -x $program-guest ]] && program=$program-guest # a benchmark that needs a kernel of its own
  [[ -x $program ]] || die "there is no benchmark '$name'; ./dev bench --help lists them"
  exec "$program" "$@"
}
