# SPDX-License-Identifier: Apache-2.0

setup_help() {
  cat <<'TEXT'
Usage: ./dev setup [--quiet]

Installs the Debian packages of cmake/packages.txt that are missing, as root or through sudo.
When it may do neither it prints the command to run and exits with 2.
TEXT
}

# Lines of the list, "name" or "?name", and the names in SETUP_ALSO.
setup_wanted() {
  [[ -z ${SETUP_ALSO:-} ]] || echo "$SETUP_ALSO"
  sed -e 's/#.*//' -e "s/@ARCH@/$(dpkg --print-architecture)/" cmake/packages.txt | awk 'NF {print $1}'
}

# setup_missing REQUIRED_ARRAY OPTIONAL_ARRAY
setup_missing() {
  local -n required_=$1 optional_=$2
  local name entry
  local -A installed=()
  while read -r name; do
    installed[$name]=1
  done < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | awk '$1 == "ii" {print $2}')
  while read -r entry; do
    name=${entry#\?}
    [[ -n ${installed[$name]:-} ]] && continue
    if [[ $entry == \?* ]]; then optional_+=("$name"); else required_+=("$name"); fi
  done < <(setup_wanted)
}

setup_main() {
  local quiet=
  case ${1:-} in
    --quiet) quiet=1 ;;
    '') ;;
    *) die "setup: unknown argument '$1'; ./dev setup --help" ;;
  esac
  command -v dpkg-query >/dev/null ||
    die "this is not Debian; install what cmake/packages.txt lists in your own way, then use cmake directly (CONTRIBUTING.md)"

  local required=() optional=()
  setup_missing required optional
  if [[ ${#required[@]} -eq 0 && (${#optional[@]} -eq 0 || -n $quiet) ]]; then
    [[ -n $quiet ]] || say "every package is installed"
    return
  fi

  local names=("${required[@]}" "${optional[@]}") as_root=()
  local by_hand="apt-get update && apt-get install -y --no-install-recommends ${names[*]}"
  if [[ $EUID -ne 0 ]]; then
    # With a terminal sudo may ask for the password; without one it must not wait for it.
    if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
      as_root=(sudo)
    elif [[ ${#required[@]} -eq 0 ]]; then
      return
    else
      echo "dev: these packages are missing, and this user may not install them. As root, run:" >&2
      echo "  $by_hand" >&2
      exit 2
    fi
  fi
  say "installing with apt-get: ${names[*]}"
  if ! { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${names[@]}"; }; then
    [[ ${#required[@]} -eq 0 ]] && return
    echo "dev: apt-get failed (see above). When that is put right, run as root:" >&2
    echo "  $by_hand" >&2
    exit 2
  fi
}
