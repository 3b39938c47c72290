#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's dkms adds, builds, installs and removes the module from the files of the component dkms.
# All of it in folders of this test. Arguments: the build folder, the kernel headers.
set -eu
build=$1 headers=$2
kernel=${headers#/usr/src/linux-headers-}

skip() { echo "SKIPPED: $1"; exit 77; }
command -v dkms >/dev/null || skip 'dkms is not there (package dkms)'
[ "$(id -u)" = 0 ] || skip 'dkms wants root'

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/tree" "$scratch/modules/$kernel"
# Its key for signatures would otherwise be made in /var/lib/dkms.
export mok_signing_key=$scratch/mok.key mok_certificate=$scratch/mok.pub

cmake --install "$build" --component dkms --prefix "$scratch" >/dev/null
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$scratch"/src/bulkhead-*/dkms.conf)
run() {
  dkms "$@" --dkmstree "$scratch/tree" --sourcetree "$scratch/src" --installtree "$scratch/modules" \
    -m bulkhead -v "$version" || { cat "$scratch"/tree/bulkhead/*/build/make.log; exit 1; }
}
unset MAKEFLAGS CFLAGS CC
run add
run build -k "$kernel" --kernelsourcedir "$headers"
run install -k "$kernel" --no-depmod
module=$(echo "$scratch/modules/$kernel"/updates/dkms/bulkhead.ko*)  # some kernels' are compressed
[ "$(modinfo -F vermagic "$module" | cut -d ' ' -f 1)" = "$kernel" ]
run remove --all --no-depmod
[ ! -e "$module" ]
