package operation

import (
	"context"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/plugin"
)

// InstallShipped puts the plugins that came with mk into the store, also on a
// node that was not started yet: so that another one can be made active before.
// With kinds only those that are the default for them.
func (n *Node) InstallShipped(ctx context.Context, kinds ...string) error {
	_, err := n.Dir.InstallShipped(ctx, n.Programs.Plugins(), pluginsdir.Options{
		Host: HostContracts(n.Version), By: n.User, At: n.Now().UTC(), Kinds: kinds,
	})
	if err != nil {
		return err
	}
	return n.linkTokens()
}

// installFirst installs the plugins that a first start asks. Where somebody
// made others active before, nobody knows which those ask for.
func (n *Node) installFirst(ctx context.Context) error {
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	if n.Record.Auth == node.Token || len(lock.Active) > 0 {
		return n.InstallShipped(ctx)
	}
	return n.InstallShipped(ctx, plugin.KindCerts, plugin.KindClustering)
}

// installOthers installs the plugins that a first start does not ask, and keeps
// what all offer.
func (n *Node) installOthers(ctx context.Context) error {
	if err := n.InstallShipped(ctx); err != nil {
		return err
	}
	return n.DescribeActive(ctx)
}
