#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# Compiles the core with the kernel's own flags, against each set of kernel headers that is
# installed, and looks that it needs nothing that a module could not give it.
#   kernel_flags_test.sh SOURCE_ROOT WORK_FOLDER source.c...
# Exit code 77: no headers are installed (apt install linux-headers-amd64), nothing was tested.
set -eu
root=$1
work=$2
shift 2
tested=0

for headers in /usr/src/linux-headers-*; do
	[ -e "$headers/Module.symvers" ] || continue
	folder=$work/$(basename "$headers")
	rm -rf "$folder"
	mkdir -p "$folder"
	printf 'ccflags-y := -I%s -Werror\n' "$root" >"$folder/Kbuild"
	objects=
	for source in "$@"; do
		ln -s "$root/shim/core/$source" "$folder/$source"
		objects="$objects ${source%.c}.o"
	done
	echo "== $headers"
	# shellcheck disable=SC2086 # a list of names without blanks
	env -u MAKEFLAGS -u CFLAGS -u CC make -C "$headers" M="$folder" $objects
	known='bh_.*|__x86_.*|__fentry__|__stack_chk_fail|_raw_spin_.*|mem(cpy|set|cmp)|fortify_panic'
	strangers=$(nm -u "$folder"/*.o | awk '$1 == "U" {print $2}' | sort -u |
		grep -v -x -E "$known" || true)
	if [ -n "$strangers" ]; then
		echo "the core needs what nobody gave it: $strangers" >&2
		exit 1
	fi
	tested=1
done
if [ "$tested" = 0 ]; then
	echo "skipped: no kernel headers below /usr/src (apt install linux-headers-amd64)"
	exit 77
fi
