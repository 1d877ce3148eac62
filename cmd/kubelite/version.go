package main

import (
	"fmt"
	"io"

	etcdversion "go.etcd.io/etcd/api/v3/version"
	kubeversion "k8s.io/component-base/version"
)

// printVersion prints what is inside, one program a line, Kubernetes first.
func printVersion(w io.Writer) int {
	if _, err := fmt.Fprintf(w, "Kubernetes %s\netcd v%s\n", kubeversion.Get().GitVersion, etcdversion.Version); err != nil {
		return 1
	}
	return 0
}
