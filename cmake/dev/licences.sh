# SPDX-License-Identifier: Apache-2.0
# Every source file has its licence at its top: Apache-2.0, and both licences where the same source
# also builds into the kernel module.

# has_licence FILE WANTED. No process for each of hundreds of files.
has_licence() {
  local line lines=()
  [[ ! -e $1 ]] || mapfile -t -n 3 lines <"$1"
  for line in "${lines[@]}"; do
    [[ $line =~ SPDX-License-Identifier:\ *([^*>]*[^*>\ -]) && ${BASH_REMATCH[1]} == "$2" ]] && return
  done
  return 1
}

check_licences() {
  local file wanted bad=0
  while IFS= read -r -d '' file; do
    case $file in
      ipc/abi/*.[ch] | shim/core/*.[ch] | shim/core/*.cc | shim/core/*.sh) wanted='GPL-2.0-only OR Apache-2.0' ;;
      shim/module/*.[ch] | tests/kernel/planted/*.c | tests/kernel/unrelated/*.c) wanted='GPL-2.0-only' ;;
      *) wanted='Apache-2.0' ;;
    esac
    if ! has_licence "$file" "$wanted"; then
      echo "$file: the first lines must have: SPDX-License-Identifier: $wanted"
      bad=1
    fi
  done < <(source_files c h cc hpp S fbs proto pml sh py cmake js css html svg yml; find . -name build -prune -o \
    -name CMakeLists.txt -printf '%P\0'; printf 'dev\0.ci/run\0')
  return "$bad"
}
