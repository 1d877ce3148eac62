package operation

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/pluginsdir"
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

// installOthers installs the plugins that a first start made the node without,
// while its API server comes up.
func (n *Node) installOthers(ctx context.Context) error {
	if n.Record.Role == node.Worker {
		return nil
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	shipped, err := n.Dir.PlanShipped(n.Programs.Plugins())
	if err == nil && slices.ContainsFunc(shipped, func(s pluginsdir.Shipped) bool {
		_, known := lock.User(s.Manifest.Identity.Kind, s.Manifest.Identity.Name)
		return !known
	}) {
		err = n.InstallShipped(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a node needs the release's folder at its first start only
	}
	if err == nil {
		err = n.linkTokens()
	}
	if err != nil {
		return err
	}
	return n.DescribeActive(ctx)
}
