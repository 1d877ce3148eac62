// Package membership is how a node comes to a cluster and how it goes: join,
// its other side on the nodes that serve it, leave, and the removal of others.
//
// Guaranteed: a join that fails before the node votes leaves both sides as
// they were, and so does one whose joiner dies, once its lease has ended; a
// joiner gets what its token and the cluster give it, whatever the strategy
// says. Not guaranteed: that a cluster which cannot be reached hears of a node
// that leaves with --force.
package membership

import (
	"context"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/operation"
)

// Node is a node as one that may come and go.
type Node struct{ *operation.Node }

// Of is the membership of a node.
func Of(n *operation.Node) Node { return Node{n} }

func (n Node) detail(text string) {
	if n.Progress != nil {
		n.Progress.Detail(text)
	}
}

// records are those of the cluster's nodes, and where they are written.
func (n Node) records(ctx context.Context) (cluster.Members, []*cluster.Member, error) {
	store, err := n.Store()
	if err != nil {
		return store, nil, err
	}
	all, err := store.List(ctx)
	return store, all, err
}
