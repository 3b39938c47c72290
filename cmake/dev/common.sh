# SPDX-License-Identifier: Apache-2.0
# Shared by the commands of ./dev, which sources this from the project's root.

readonly PRESETS=(release debug asan tsan fuzz coverage)

# Wrong usage, or an obstacle that the user must remove: exit 2. Failed work exits 1.
die() {
  echo "dev: $*" >&2
  exit 2
}

say() { echo "== $*"; }

jobs_default() { nproc; }

require_number() { # OPTION VALUE
  [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "$1 needs a positive whole number, not '${2:-}'"
}

require_preset() {
  local preset
  for preset in "${PRESETS[@]}"; do
    [[ $preset == "$1" ]] && return
  done
  die "unknown preset '$1'; there are: ${PRESETS[*]}"
}

run_setup() {
  source cmake/dev/setup.sh
  setup_main --quiet
}

build_priority=() # a command before the build's own, as nice

# build_preset PRESET JOBS [CMAKE ARGUMENTS]
build_preset() {
  local preset=$1 jobs=$2
  shift 2
  cmake --preset "$preset" --log-level=WARNING "$@" >/dev/null || return 1
  "${build_priority[@]}" cmake --build --preset "$preset" --parallel "$jobs"
}

# Names of this tree's files that end in one of the given suffixes, NUL-separated.
source_files() {
  local suffix patterns=()
  for suffix in "$@"; do
    patterns+=(-o -name "*.$suffix")
  done
  find . \( -path ./build -o -path ./.git \) -prune -o \
    -type f \( "${patterns[@]:1}" \) -printf '%P\0' | sort -z
}
