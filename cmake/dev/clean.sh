# SPDX-License-Identifier: Apache-2.0

clean_help() {
  echo "Usage: ./dev clean"
  echo
  echo "Removes build/ with everything in it."
}

clean_main() {
  [[ $# -eq 0 ]] || die "clean takes no arguments"
  rm -rf build
}
