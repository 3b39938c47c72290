# SPDX-License-Identifier: Apache-2.0

build_help() {
  cat <<TEXT
Usage: ./dev build [PRESET] [-j N]

Builds build/PRESET. Presets: ${PRESETS[*]} (release when none is given).
TEXT
}

build_main() {
  local preset=release jobs
  jobs=$(jobs_default)
  while [[ $# -gt 0 ]]; do
    case $1 in
      -j) require_number -j "${2:-}" && jobs=$2 && shift 2 ;;
      -*) die "build: unknown option '$1'; ./dev build --help" ;;
      *) require_preset "$1" && preset=$1 && shift ;;
    esac
  done
  run_setup
  build_preset "$preset" "$jobs"
}
