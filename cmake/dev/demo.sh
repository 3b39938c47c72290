# SPDX-License-Identifier: Apache-2.0
# --help and every other argument go to the program.

demo_main() {
  run_setup
  say "building release"
  build_preset release "$(jobs_default)"
  [[ -x build/release/bin/bulkhead ]] || die "the build made no build/release/bin/bulkhead"
  exec build/release/bin/bulkhead demo "$@"
}
