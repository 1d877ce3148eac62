// Package datastore is mk's way to etcd: how its members are, who joins and
// leaves them, its snapshots, and what brings it back from one.
//
// Guaranteed: whoever changes members looks first what is already so, names
// them by the address of their peers, and may be asked again after any answer
// was lost. No change takes a quorum away: a new member is a learner until it
// holds what the leader holds, and nobody is removed whose leaving would leave
// too few. A snapshot is only kept under its name when all of it is on the disk
// and its hash is right.
//
// Not guaranteed: anything about the data of a cluster without a quorum. The
// package says so, and who is silent; what then is lost, a person decides.
package datastore

import "go.etcd.io/etcd/api/v3/version"

// EtcdVersion is that of the etcd that mk runs.
func EtcdVersion() string { return version.Version }
