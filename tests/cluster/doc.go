// Package cluster tests mk with real Kubernetes: real containerd, etcd, API
// server, kubelet and pods, each node in a network namespace of its own with
// its own root folder.
//
// The tests need root and the programs that `make build` puts into out/; they
// fail where those are missing. They have the build tag cluster, so that the
// ordinary tests stay quick: make test-cluster.
package cluster
