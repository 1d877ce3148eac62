package operation

import (
	"context"

	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// Plugins are the active plugins of a node. A plugin is started when it is
// first asked for, and lives until the command ends.
type Plugins interface {
	Certs(ctx context.Context, authority string) (certs.Plugin, plugin.Identity, error)
	Tokens(ctx context.Context) (tokens.Plugin, plugin.Identity, error)
	Clustering(ctx context.Context) (clustering.Plugin, plugin.Identity, error)
	// Addons is the plugin of that name.
	Addons(ctx context.Context, name string) (addons.Plugin, plugin.Identity, error)
	// Exporter moves the state of an active plugin, named kind/name.
	Exporter(ctx context.Context, name string) (plugin.Exporter, error)
	// Forget has an active plugin, named kind/name, drop what is the cluster's.
	Forget(ctx context.Context, name string) error
	// Described asks an installed plugin what it is, for those who ask later
	// when none is started.
	Described(ctx context.Context, lock *lockfile.Lock, entry lockfile.Installed) (*pluginsdir.Described, error)
}

// prefetcher is implemented where plugins can be started before they are
// asked for.
type prefetcher interface {
	Prefetch(ctx context.Context, kinds ...string)
}

// Prefetch starts the active plugins of kinds that are about to be asked, where
// that can be done, and does not wait for them. They start even if ctx ends,
// each within its own time; errors come back when they are asked.
func (n *Node) Prefetch(ctx context.Context, kinds ...string) {
	if p, ok := n.Plugins.(prefetcher); ok {
		p.Prefetch(context.WithoutCancel(ctx), kinds...)
	}
}
