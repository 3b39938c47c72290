#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the guest: loads what Debian's kernel needs to see its disk, and makes room for
# the init on it, as the initramfs of an installation does.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
  insmod "/modules/$module" || echo "can't load $module"
done </guest/modules
tries=0
until [ -b /dev/vda ] || [ $tries = 100 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
mkdir -p /root
mount -t ext4 -o rw /dev/vda /root || {
  echo "the disk can't be mounted"
  reboot -f
}
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
