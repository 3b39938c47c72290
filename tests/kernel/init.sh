#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The guest's first process: sets up the system, runs the guest script, ends the guest.
/bin/busybox --install -s /bin
export PATH=/bin TERM=dumb HOME=/root TMPDIR=/tmp

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /root /run /var
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
# The root itself is a tmpfs; one mounted on /tmp would hide a build folder that is in /tmp.
chmod 1777 /tmp /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
ln -sf /proc/self/fd /dev/fd
ln -sf /run /var/run
ip link set lo up 2>/dev/null  # the debug kernel has no TCP/IP
# The limit of descriptors that systemd sets; the kernel's own hard limit is 4096.
ulimit -n 524288
ulimit -Sn 1024

# Held open until the end: closing a port waits until all of its output is sent.
exec 8>/dev/ttyS2 9>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
printf 'booted\t%s\n' "$(cut -d ' ' -f 1 /proc/uptime)" >&9

. /guest/environment
code=0
sh /guest/script </dev/null >&8 2>&8 8>&- 9>&- || code=$?
printf 'end\t%s\n' "$code" >&9
exec 8>&- 9>&-
reboot -f  # which ends QEMU (-no-reboot), also where the kernel has no ACPI
