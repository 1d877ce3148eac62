#!/bin/bash
# Makes a folder that a systemd can be booted in: make-root.sh DIR.
# Needs root, debootstrap and a Debian mirror; takes about a minute, 300 MB.
# A folder that is complete already is left alone.
set -euo pipefail
dir=${1:?usage: make-root.sh DIR}
# What a systemd needs, and what mk's ./install asks for.
packages=systemd,systemd-sysv,dbus,iproute2,iptables,conntrack,mount,procps
if [ "$(cat "$dir/.complete" 2>/dev/null)" = "$packages" ]; then
	exit 0
fi
rm -rf --one-file-system "$dir"
mkdir -p "$dir"
debootstrap --variant=minbase --include="$packages" bookworm "$dir"
echo "$packages" >"$dir/.complete"
