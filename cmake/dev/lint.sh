# SPDX-License-Identifier: Apache-2.0

lint_help() {
  cat <<'TEXT'
Usage: ./dev lint [FILE...]

Checks licence lines, which folder includes which (docs/architecture.md), that deliberate races say why, plain words (cmake/dev/words.tsv) and shell syntax, then
runs clang-tidy 14 (warnings are errors) over the given files, or all sources of this tree that the preset release
compiles.
TEXT
}

lint_main() {
  local argument
  for argument in "$@"; do
    [[ $argument != -* ]] || die "lint: unknown option '$argument'; ./dev lint --help"
    [[ -f $argument ]] || die "lint: there is no file '$argument'"
  done
  run_setup
  source cmake/dev/licences.sh
  source cmake/dev/races.sh
  source cmake/dev/words.sh
  local failed=0 script
  check_licences || failed=1
  python3 cmake/dev/arrows.py . || failed=1
  check_races || failed=1
  check_words || failed=1
  for script in dev .ci/run cmake/dev/*.sh; do
    bash -n "$script" || failed=1
  done

  say "building release: clang-tidy needs the generated headers"
  build_preset release "$(jobs_default)" || exit 1
  local files=("$@")
  if [[ $# -eq 0 ]]; then
    mapfile -t files < <(python3 cmake/dev/compiled_sources.py build/release/compile_commands.json)
  fi
  say "clang-tidy over ${#files[@]} files"
  # gcc's options that clang does not have are no finding; nor is the number of suppressed warnings.
  printf '%s\0' "${files[@]}" |
    xargs -0 -r -n 1 -P "$(jobs_default)" clang-tidy-14 -p build/release --quiet \
      --warnings-as-errors='*' --extra-arg=-Wno-unknown-warning-option 2>&1 |
    { grep -vE '^[0-9]+ warnings? generated\.$' || true; } || failed=1
  return "$failed"
}
