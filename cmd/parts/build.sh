#!/usr/bin/env bash
# Builds the programs and images of other projects that a node runs, from their Go modules.
#
#   cmd/parts/build.sh OUTDIR [PART...]
#
# Parts: containerd runc cni flanneld pause coredns tools (these are the default), testtools.
# Results:
#   OUTDIR/bin                 containerd, its shim, ctr, runc, flanneld; the CNI plugins in bin/cni
#   OUTDIR/images              pause.tar, coredns.tar: OCI layouts, the same bytes for the same sources and Go
#   OUTDIR/testimages          tools.tar
#   OUTDIR/testbin             zlint (part testtools)
#   OUTDIR/parts.txt           one line per part: name, version, what it was built to (only when all default parts are built)
#
# Versions are those of the go.mod beside each part; nowhere else. Incremental through Go's build cache.
# Installs nothing: runc wants gcc, pkg-config and libseccomp-dev, all else only Go. Without a network
# it works as soon as the modules have been downloaded once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
default_parts=(containerd runc cni flanneld pause coredns tools)

if (($# < 1)) || [[ $1 == -* ]]; then
	echo "usage: $0 OUTDIR [PART...]   (parts: ${default_parts[*]} testtools)" >&2
	exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
parts=("$@")
((${#parts[@]})) || parts=("${default_parts[@]}")

# One set of flags for every compilation: another set would compile the world once more.
export GOFLAGS="-trimpath -gcflags=all=-dwarf=false -buildvcs=false"
export CGO_ENABLED=0
strip="-s -w"

containerd_module=github.com/containerd/containerd/v2
cni_module=github.com/containernetworking/plugins
flannel_module=github.com/flannel-io/flannel
coredns_module=github.com/coredns/coredns
# The version of our own pause image; containerd's configuration names the image by it.
pause_version=1.0.0
tools_version=1.0.0

# version DIR MODULE prints the version that DIR's go.mod selects.
version() { go -C "$1" list -m -f '{{.Version}}' "$2"; }

# gobuild DIR TARGET ARG... builds one program, or several into the folder TARGET/, and says how long it took.
gobuild() {
	local dir=$1 target=$2 began
	shift 2
	began=$(date +%s)
	mkdir -p "$(dirname "$out/${target}x")"
	if ! GOGC=400 go -C "$dir" build -o "$out/$target" "$@" 2> >(grep -v '^go: downloading ' >&2); then
		echo "parts: building $target failed" >&2
		return 1
	fi
	# One line at once: kubelite may be built beside.
	printf 'parts: %-34s %4ds %6d KiB\n' "$target" $(($(date +%s) - began)) $(du -sk --apparent-size "$out/$target" | cut -f1)
}

# image TARGET NAME ARG... writes one image; ARGs as of ociimage.
image() {
	local target=$1 name=$2
	shift 2
	[[ -n ${ociimage_built:-} ]] || gobuild "$here" stage/ociimage -ldflags "$strip" ./ociimage
	ociimage_built=1
	mkdir -p "$(dirname "$out/$target")"
	"$out/stage/ociimage" -o "$out/$target" -name "$name" "$@"
	printf 'parts: %-34s %s\n' "$target" "$name"
}

build_containerd() {
	local v flags
	v=$(version "$here" $containerd_module)
	flags="$strip -X $containerd_module/version.Version=$v -X $containerd_module/version.Package=$containerd_module"
	# Without cgo the btrfs snapshotter drops out by itself; everything else is there, and the programs are static.
	gobuild "$here" bin/containerd -tags urfave_cli_no_docs,static_build -ldflags "$flags" $containerd_module/cmd/containerd
	gobuild "$here" bin/ctr -tags urfave_cli_no_docs,static_build -ldflags "$flags" $containerd_module/cmd/ctr
	gobuild "$here" bin/containerd-shim-runc-v2 -tags urfave_cli_no_docs,static_build,no_grpc -ldflags "$flags" $containerd_module/cmd/containerd-shim-runc-v2
}

build_runc() {
	if ! pkg-config --exists libseccomp; then
		echo "parts: runc needs libseccomp's headers: apt-get install libseccomp-dev pkg-config gcc" >&2
		return 1
	fi
	# As runc's own `make static`: a static PIE; without seccomp every sandbox fails. runc embeds its version itself.
	CGO_ENABLED=1 gobuild "$here" bin/runc -buildmode=pie -tags seccomp,urfave_cli_no_docs,netgo,osusergo \
		-ldflags "$strip -linkmode external -extldflags -static-pie" github.com/opencontainers/runc
}

build_cni() {
	local v packages
	v=$(version "$here" $cni_module)
	mapfile -t packages < <(go -C "$here" list tool | grep "^$cni_module/")
	gobuild "$here" bin/cni/ -ldflags "$strip -X $cni_module/pkg/utils/buildversion.BuildVersion=$v" "${packages[@]}"
}

build_flanneld() {
	local v
	v=$(version "$here/flanneld" $flannel_module)
	gobuild "$here/flanneld" bin/flanneld -ldflags "$strip -X $flannel_module/pkg/version.Version=$v" .
}

build_pause() {
	gobuild "$here" stage/pause -ldflags "$strip -X main.version=$pause_version" ./pause
	image images/pause.tar "mk8s.io/pause:$pause_version" -user 65535:65535 -entrypoint /pause \
		-label "org.opencontainers.image.version=$pause_version" /pause="$out/stage/pause"
}

build_coredns() {
	local v
	v=$(version "$here/coredns" $coredns_module)
	gobuild "$here/coredns" stage/coredns -ldflags "$strip -X $coredns_module/coremain.GitCommit=$v" .
	# A numeric user; port 53 is open to it because containerd lets pods bind low ports (enable_unprivileged_ports).
	image images/coredns.tar "mk8s.io/coredns:${v#v}" -user 65532:65532 -workdir / -entrypoint /coredns \
		-label "org.opencontainers.image.version=${v#v}" /coredns="$out/stage/coredns"
}

build_tools() {
	gobuild "$here" stage/tools -ldflags "$strip" ./tools
	image testimages/tools.tar "mk.test/tools:$tools_version" -entrypoint /tools -env PATH=/ /tools="$out/stage/tools"
}

build_testtools() {
	gobuild "$here/testtools" testbin/zlint -ldflags "$strip" github.com/zmap/zlint/v3/cmd/zlint
}

# list writes OUTDIR/parts.txt: what a node's status and the release notes say about their parts.
list() {
	{
		local kubelite=$here/../kubelite
		echo "kubernetes $(version "$kubelite" k8s.io/kubernetes) bin/kubelite"
		echo "etcd $(version "$kubelite" go.etcd.io/etcd/server/v3) bin/kubelite"
		echo "containerd $(version "$here" $containerd_module) bin/containerd"
		echo "runc $(version "$here" github.com/opencontainers/runc) bin/runc"
		echo "cni $(version "$here" $cni_module) bin/cni"
		echo "flannel $(version "$here/flanneld" $flannel_module) bin/flanneld"
		echo "mk8s.io/pause:$pause_version $pause_version images/pause.tar"
		local v
		v=$(version "$here/coredns" $coredns_module)
		echo "mk8s.io/coredns:${v#v} ${v#v} images/coredns.tar"
	} >"$out/parts.txt.new"
	mv "$out/parts.txt.new" "$out/parts.txt"
}

for part in "${parts[@]}"; do
	case $part in
	containerd | runc | cni | flanneld | pause | coredns | tools | testtools) "build_$part" ;;
	*)
		echo "parts: no part named \"$part\"; there are: ${default_parts[*]} testtools" >&2
		exit 2
		;;
	esac
done
[[ ${parts[*]} == "${default_parts[*]}" ]] && list
echo "parts: done in ${SECONDS}s"
