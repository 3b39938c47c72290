# SPDX-License-Identifier: Apache-2.0
# Things that a test run must not leave behind: processes, mounts, shared memory, temporary files.
# Other work runs on the machine meanwhile, so each check is limited to things that the run can have
# made.

# Processes that have the run's mark in their environment, or run a program of the build folder (a
# driver host starts with an empty environment). Processes with an unreadable environment, as hosts
# and supervisors, still show their command line.
leftover_processes() {
  local directory pid program
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    program=$(readlink "$directory/exe" 2>/dev/null) ||
      IFS= read -r -d '' program 2>/dev/null <"$directory/cmdline" || continue
    if [[ $program == "$ROOT"/build/* ]] ||
      { tr '\0' '\n' <"$directory/environ" | grep -qx "BULKHEAD_TEST_RUN=$run_id"; } 2>/dev/null; then
      # The start time distinguishes a process from a later one with the same id.
      printf 'process %s started %s: %s\n' "$pid" \
        "$(sed 's/.*) //' "$directory/stat" 2>/dev/null | cut -d ' ' -f 20)" "$program"
    fi
  done
}

leftover_mounts() {
  awk -v scratch="$run_folder" -v root="$ROOT/" \
    'index($5, scratch) == 1 || index($5, root) == 1 || /bulkhead/ {print "mount " $5}' \
    /proc/self/mountinfo
}

# Owned by this user, and mapped by no living process: programs of other users start and end.
leftover_shared_memory() {
  local path
  for path in /dev/shm/*; do
    [[ -e $path && -O $path ]] || continue
    grep -qsF "$path" /proc/[0-9]*/maps || echo "shared memory $path"
  done
}

leftover_files() {
  find "$scratch" -mindepth 1 -maxdepth 1 -printf 'temporary file %p\n'
  # A living instance has a lock on its own.
  local folder
  for folder in /var/lib/bulkhead/instance-* /run/bulkhead/instance-*; do
    [[ ! -d $folder ]] || ! flock -n "$folder" true || echo "state of an instance $folder"
  done
}

leftovers_list() {
  leftover_processes
  leftover_mounts
  leftover_shared_memory
  leftover_files
}

leftovers_snapshot() { leftovers_list | sort >"$1"; }

leftovers_check() {
  local before=$1 left attempt line
  # A killed process ends a moment later; it gets two seconds.
  for attempt in {1..20}; do
    left=$(leftovers_list | sort | comm -13 "$before" -)
    [[ -z $left ]] && break
    sleep 0.1
  done
  if [[ -z $left ]]; then
    check_passed "nothing left behind"
    return
  fi
  while IFS= read -r line; do
    check_failed "nothing left behind" "$line"
  done <<<"$left"
}
