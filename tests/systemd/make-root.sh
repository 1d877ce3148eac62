#!/bin/bash
# Makes a folder that a systemd can be booted in: make-root.sh DIR.
# Needs root, debootstrap and a Debian mirror; takes about a minute, 250 MB.
# A folder that is complete already is left alone.
set -euo pipefail
dir=${1:?usage: make-root.sh DIR}
if [ -e "$dir/.complete" ]; then
	exit 0
fi
rm -rf --one-file-system "$dir"
mkdir -p "$dir"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2 bookworm "$dir"
: >"$dir/.complete"
