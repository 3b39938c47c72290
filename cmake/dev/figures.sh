# SPDX-License-Identifier: Apache-2.0

figures_help() {
  cat <<TEXT
Usage: ./dev figures [GROUP] [--soak MINUTES] [--json FILE]

Runs the commands behind the published figures in their short form and prints one table. Exits
with 1 when a figure misses its limit or a command reports none.
Groups: $(awk -F '\t' '!/^#/ && NF {print $1}' cmake/figures.tsv | sort -u | xargs) (all of them when none is given).

  --soak MINUTES  how long the service is soaked (group service): 30, or 1440 for a day; else one minute
TEXT
}

figures_main() {
  run_setup
  say "building release"
  build_preset release "$(jobs_default)"
  exec python3 cmake/dev/figures.py cmake/figures.tsv build/release/bin "$@"
}
