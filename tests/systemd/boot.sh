#!/bin/bash
# Boots the systemd in DIR as process 1 of namespaces of its own:
# boot.sh DIR [NETNS]. Does not return; killing this process, or its child, ends
# the whole machine. Without the name of a network namespace it has no network
# but loopback. It has a cgroup of its own in each hierarchy, named after this
# process, and sees nothing above it.
set -euo pipefail
dir=$(realpath "${1:?usage: boot.sh DIR [NETNS]}")
netns=${2:-}
if [ "${3:-}" != inside ]; then
	unified=
	[ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || unified=/sys/fs/cgroup
	for hierarchy in ${unified:-/sys/fs/cgroup/*}; do
		[ -e "$hierarchy/cgroup.procs" ] || continue
		own=$hierarchy/mk-systemd-$$
		mkdir -p "$own"
		# A new cpuset takes nobody before it has processors.
		for file in cpuset.cpus cpuset.mems; do
			[ -n "$unified" ] || [ ! -e "$own/$file" ] || cat "$hierarchy/$file" >"$own/$file"
		done
		echo $$ >"$own/cgroup.procs"
	done
	enter=(unshare --net)
	[ -z "$netns" ] || enter=(nsenter "--net=/run/netns/$netns" unshare)
	exec "${enter[@]}" --pid --fork --mount --uts --ipc --cgroup --kill-child "$0" "$dir" "$netns" inside
fi
mount --make-rprivate /
mount --bind "$dir" "$dir"
cd "$dir"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
	mount -t cgroup2 cgroup2 sys/fs/cgroup
else
	mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
	mkdir sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
	# Read at once: its lines move while cgroups come and go.
	while read -r name hierarchy _ _; do
		[ "$name" != "#subsys_name" ] && [ "$hierarchy" != 0 ] || continue
		mkdir "sys/fs/cgroup/$name"
		mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name"
	done <<<"$(cat /proc/cgroups)"
fi
for name in null zero full random urandom tty kmsg; do
	[ -e "dev/$name" ] || : >"dev/$name"
	mount --bind "/dev/$name" "dev/$name"
done
mkdir -p dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
hostname mk-systemd
ip link set lo up
exec env -i container=mk PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$dir" /lib/systemd/systemd
