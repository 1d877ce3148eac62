package etcd

import (
	"fmt"
	"strconv"
	"strings"
)

// kubernetes is the name under which a node's facts hold that version.
const kubernetes = "kubernetes"

// oldest is how many minor versions a kubelet may be behind the API server;
// it may never be ahead (the version skew policy of Kubernetes).
const oldest = 3

// skew says why a worker of one version cannot join a server of another; empty
// where it can, or where a version is not known.
func skew(server, worker string) string {
	s, knownS := minor(server)
	w, knownW := minor(worker)
	switch {
	case !knownS || !knownW:
		return ""
	case w > s:
		return fmt.Sprintf("its Kubernetes %s is newer than the cluster's %s", worker, server)
	case s-w > oldest:
		return fmt.Sprintf("its Kubernetes %s is more than %d minor versions older than the cluster's %s", worker, oldest, server)
	}
	return ""
}

// planeSkew says why two API servers cannot run side by side: they may be one
// minor version apart (the same policy).
func planeSkew(server, joiner string) string {
	s, knownS := minor(server)
	j, knownJ := minor(joiner)
	if knownS && knownJ && (s-j > 1 || j-s > 1) {
		return fmt.Sprintf("its Kubernetes %s is more than one minor version from the %s of the other control-plane nodes", joiner, server)
	}
	return ""
}

// minor is the 36 of v1.36.2.
func minor(version string) (int, bool) {
	major, rest, ok := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if !ok || major != "1" {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0
}
