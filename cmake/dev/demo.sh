# SPDX-License-Identifier: Apache-2.0

demo_help() {
  cat <<'TEXT'
Usage: ./dev demo [ARGUMENTS]

Builds release and shows the main job on real files, with the measurements of each step: through
fanotify as root, else through the embedded shim. Exit code 0 only if every step succeeded.

The arguments go to build/release/bin/demo:
  --json FILE       write the figures
  --verbose         also log what the driver and its hosts do
TEXT
}

demo_main() {
  run_setup
  say "building release"
  build_preset release "$(jobs_default)"
  [[ -x build/release/bin/demo ]] || die "the build made no build/release/bin/demo"
  exec build/release/bin/demo "$@"
}
