# SPDX-License-Identifier: Apache-2.0

format_help() {
  cat <<'TEXT'
Usage: ./dev format [--check]

Formats every C and C++ file with clang-format 14. --check changes nothing, prints the files that are
not formatted, and exits with 1 when there is one.
TEXT
}

format_main() {
  local mode=(-i)
  case ${1:-} in
    --check) mode=(--dry-run --Werror) ;;
    '') ;;
    *) die "format: unknown argument '$1'; ./dev format --help" ;;
  esac
  command -v clang-format-14 >/dev/null || die "clang-format-14 is missing; run ./dev setup"
  source_files c h cc hpp | xargs -0 -r clang-format-14 "${mode[@]}"
}
