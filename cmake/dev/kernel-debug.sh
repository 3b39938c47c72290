# SPDX-License-Identifier: Apache-2.0
# The files in build/kernel-debug:
#   ready -> KEY                  used by the tests
#   KEY/bzImage                   the kernel
#   KEY/tree                      for compiling modules for it
#   work-KEY/                     of an unfinished build; the next build continues there
# KEY is made from the sources' version, the configuration and the compiler. KEY/ exists only when it
# is complete.

readonly KERNEL_DEBUG_SOURCE=linux-source-6.1
readonly KERNEL_DEBUG_CONFIG=tests/kernel/debug.config

kernel_debug_help() {
  cat <<TEXT
Usage: ./dev kernel-debug [-j N]

Builds a small kernel with the kernel's own checkers on (KASAN, lockdep, UBSAN, kmemleak and others;
$KERNEL_DEBUG_CONFIG has them all) from Debian's package $KERNEL_DEBUG_SOURCE into
build/kernel-debug. It takes minutes, and 2 GB while it builds; one that was interrupted goes on where
it was. The test kernel.module_debug runs the module on it.

  -j N   parallel jobs (the number of CPUs)
TEXT
}

# Prints the reason why this machine cannot build one, if there is one.
kernel_debug_obstacle() {
  if [[ $(uname -m) != x86_64 ]]; then
    echo "the guest is an x86-64 machine, and this one is $(uname -m)"
  elif [[ ! -e /usr/src/$KERNEL_DEBUG_SOURCE.tar.xz ]]; then
    echo "the package $KERNEL_DEBUG_SOURCE is not installed"
  fi
}

kernel_debug_key() {
  local version
  version=$(dpkg-query -W -f '${Version}' "$KERNEL_DEBUG_SOURCE") || return 1
  echo "$version-$({ cat "$KERNEL_DEBUG_CONFIG" && gcc --version; } | sha256sum | cut -c 1-12)"
}

# All of the sources, or none.
kernel_debug_unpack() { # WORK
  [[ -d $1 ]] && return
  say "debug kernel: unpacking $KERNEL_DEBUG_SOURCE"
  rm -rf "$1.new"
  mkdir "$1.new" &&
    tar -C "$1.new" --strip-components 1 -xf "/usr/src/$KERNEL_DEBUG_SOURCE.tar.xz" &&
    mv "$1.new" "$1"
}

# The kernel's configuration drops unknown options, and options with a missing dependency, silently.
kernel_debug_configure() { # WORK
  local lacking
  make -s -C "$1" KCONFIG_ALLCONFIG="$PWD/$KERNEL_DEBUG_CONFIG" allnoconfig || return 1
  lacking=$(grep -E '^(# )?CONFIG_' "$KERNEL_DEBUG_CONFIG" | grep -vxFf "$1/.config")
  [[ -z $lacking ]] && return
  echo "dev: this kernel cannot be configured so ($KERNEL_DEBUG_CONFIG):" >&2
  echo "$lacking" >&2
  return 1
}

# Shows a line of make's every ten seconds.
kernel_debug_progress() {
  local line steps=0 began=$SECONDS next=$SECONDS
  while IFS= read -r line; do
    steps=$((steps + 1))
    if [[ $SECONDS -ge $next ]]; then
      printf '   %4d s, step %5d: %s\n' $((SECONDS - began)) "$steps" "$line"
      next=$((SECONDS + 10))
    fi
  done
}

kernel_debug_compile() { # WORK JOBS
  local compiler=gcc
  ! command -v ccache >/dev/null || compiler="ccache gcc"
  say "debug kernel: compiling"
  # Ctrl-C ends make too, which leaves no half-written object behind.
  env -u MAKEFLAGS -u CFLAGS nice make -C "$1" -j "$2" CC="$compiler" bzImage modules 2>&1 |
    tee "$1/build.log" | kernel_debug_progress && return
  tail -n 30 "$1/build.log"
  return 1
}

# The files that kbuild reads for a module outside the tree, without the gigabytes around them.
kernel_debug_keep() { # WORK FOLDER
  local new=$2.new
  rm -rf "$new"
  mkdir -p "$new/tree" && cp "$1/arch/x86/boot/bzImage" "$new/" &&
    (cd "$1" && cp -a --parents .config Makefile Module.symvers include scripts arch/x86/include \
      arch/x86/Makefile tools/objtool/objtool "$OLDPWD/$new/tree") &&
    mv "$new" "$2"
}

kernel_debug_build() { # JOBS
  local folder=build/kernel-debug key work other
  key=$(kernel_debug_key) || return 1
  work=$folder/work-$key
  mkdir -p "$folder"
  # One build at a time; a second one waits and finds it finished. make holds the lock too, in case
  # this process ends first.
  exec {kernel_debug_lock}>"$folder/lock"
  flock "$kernel_debug_lock" || return 1
  if [[ ! -d $folder/$key ]]; then
    kernel_debug_unpack "$work" && kernel_debug_configure "$work" &&
      kernel_debug_compile "$work" "$1" && kernel_debug_keep "$work" "$folder/$key" || return 1
  fi
  ln -sfn "$key" "$folder/ready.new" && mv -T "$folder/ready.new" "$folder/ready" || return 1
  exec {kernel_debug_lock}>&-
  say "debug kernel: $folder/$key"
}

# Removes earlier configurations, and the sources of the present one: 80,000 files, which can take
# minutes.
kernel_debug_clean() {
  local folder=build/kernel-debug key other
  key=$(kernel_debug_key) || return
  exec {kernel_debug_lock}>"$folder/lock"
  flock "$kernel_debug_lock" || return
  [[ -d $folder/$key ]] || return 0 # the build failed, and can be continued
  for other in "$folder"/*; do
    [[ -L $other || ! -d $other || $other == "$folder/$key" ]] || rm -rf "$other"
  done
  exec {kernel_debug_lock}>&-
}

kernel_debug_main() {
  local jobs obstacle
  jobs=$(jobs_default)
  while [[ $# -gt 0 ]]; do
    case $1 in
      -j) require_number -j "${2:-}" && jobs=$2 && shift 2 ;;
      *) die "kernel-debug: unknown argument '$1'; ./dev kernel-debug --help" ;;
    esac
  done
  run_setup
  obstacle=$(kernel_debug_obstacle)
  [[ -z $obstacle ]] || die "kernel-debug: $obstacle"
  kernel_debug_build "$jobs" && kernel_debug_clean
}
