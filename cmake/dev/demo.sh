# SPDX-License-Identifier: Apache-2.0

demo_help() {
  cat <<'TEXT'
Usage: ./dev demo [ARGUMENTS]

Builds release and shows the main job on real files, each step with what it measured: through
fanotify as root, through the embedded shim else. Exit code 0 only if every step held.

The arguments go to `bulkhead demo`:
  --json FILE       write the figures
  --verbose         say what the driver and its hosts do, too
TEXT
}

demo_main() {
  run_setup
  say "building release"
  build_preset release "$(jobs_default)"
  [[ -x build/release/bin/bulkhead ]] || die "the build made no build/release/bin/bulkhead"
  exec build/release/bin/bulkhead demo "$@"
}
