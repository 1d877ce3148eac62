#!/bin/bash
# Boots the systemd in DIR as process 1 of namespaces of its own: boot.sh DIR.
# Does not return; killing this process, or its child, ends the whole machine.
# It has no network but loopback and sees the name=systemd hierarchy only.
set -euo pipefail
dir=$(realpath "${1:?usage: boot.sh DIR}")
if [ "${2:-}" != inside ]; then
	exec unshare --pid --fork --mount --uts --ipc --net --cgroup --kill-child "$0" "$dir" inside
fi
mount --make-rprivate /
mount --bind "$dir" "$dir"
cd "$dir"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
	mount -t cgroup2 cgroup2 sys/fs/cgroup
else
	mkdir sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
for name in null zero full random urandom tty; do
	[ -e "dev/$name" ] || : >"dev/$name"
	mount --bind "/dev/$name" "dev/$name"
done
mkdir -p dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
hostname mk-systemd
ip link set lo up
exec env -i container=mk PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$dir" /lib/systemd/systemd
