// Package recovery keeps what brings a cluster back, and brings it back:
// snapshots of a control-plane node, a node made from one on an empty machine,
// and a datastore of one member where the others are lost for good.
//
// Guaranteed: a snapshot is kept under its name only after its datastore was
// started from it; what is recovered or restored has an identity of its own, so
// that members of the old one and it are strangers; the old data stay beside
// the new. Not guaranteed: what was acknowledged after the snapshot was taken,
// and what only lost members held.
package recovery

import (
	"context"
	"time"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/plugin"
)

// Node is a node as one whose data must last.
type Node struct{ *operation.Node }

// Of is the recovery of a node.
func Of(n *operation.Node) Node { return Node{n} }

func (n Node) detail(text string) {
	if n.Progress != nil {
		n.Progress.Detail(text)
	}
}

func (n Node) tool() datastore.Tool { return datastore.Tool{Program: n.Programs.Bin("kubelite")} }

// private is for what root alone reads.
func private() node.Perm { return node.Perm{Mode: 0o600, UID: -1, GID: -1} }

func privateFolder() node.Perm { return node.Perm{Mode: 0o700, UID: -1, GID: -1} }

const (
	workLimit = 10 * time.Minute
	// data is etcd's folder.
	data = "var/kubernetes/backend/etcd"
)

// scratch makes a folder for one piece of work. The caller calls done.
func (n Node) scratch() (name string, done func() error, err error) {
	name = folder + "/.work-" + node.NewID()
	if err := n.sweep(); err != nil {
		return "", nil, err
	}
	if err := n.Root.MkdirAll(name, privateFolder()); err != nil {
		return "", nil, err
	}
	return name, func() error { return n.Root.RemoveAll(name) }, nil
}

// controlPlane refuses a node that holds no part of the datastore.
func (n Node) controlPlane(what string) error {
	if n.Record == nil || n.Record.ClusterID == "" {
		return operation.ErrNoNode
	}
	if n.Record.Role != node.ControlPlane {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "this node is a worker: it holds no part of the datastore",
			Next: what + ", on a control-plane node"}
	}
	return nil
}

// voter refuses, on a node that holds no part of the datastore, what puts
// another one in its place.
func (n Node) voter(what string) error {
	if err := n.controlPlane(what); err != nil {
		return err
	}
	if n.Record.NoVote {
		return &plugin.Error{Reason: plugin.NotPossible, Message: "this node holds no part of the datastore: it has no vote",
			Next: what + ", on a node that votes; where none is left, keep a snapshot elsewhere, then: mk reset --all, and mk datastore snapshot restore FILE"}
	}
	return nil
}

// status is how the datastore is; an error means that nobody knows.
func (n Node) status(ctx context.Context) (*datastore.Status, error) {
	c, err := n.Datastore()
	if err != nil {
		return nil, err
	}
	s, err := c.Status(ctx)
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	return s, err
}
