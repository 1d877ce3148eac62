package operation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/timer"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// checkObjects reports the objects of a manifest that no grant names, and those
// by which a plugin of the class contained would make itself root: a grant
// names a kind, and a pod of that kind may still mount the host.
func checkObjects(manifests []byte, grants []plugin.ObjectGrant, class manifest.Class) error {
	objects, err := kube.ParseManifests(manifests, "manifests")
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range objects {
		r := o.Ref()
		if !slices.ContainsFunc(grants, func(g plugin.ObjectGrant) bool { return covers(g, r) }) {
			errs = append(errs, fmt.Errorf("%s needs a grant for %s in group %q, namespace %q", r, r.Kind, r.Group, r.Namespace))
		}
	}
	if class == manifest.Contained && len(errs) == 0 {
		var granted []string
		for _, g := range grants {
			granted = append(granted, g.Namespaces...)
		}
		judge, err := kube.NewClassifier(granted...)
		if err != nil {
			return err
		}
		for _, reason := range judge.Classify(objects...).Reasons {
			errs = append(errs, fmt.Errorf("%s: no grant of this plugin is root-equivalent", reason))
		}
	}
	return errors.Join(errs...)
}

// ownInventories puts a plugin's name before those of its inventories, so that
// no plugin applies or deletes under another's, or under mk's own.
func ownInventories(cs changeset.ChangeSet, by plugin.Identity) changeset.ChangeSet {
	own := func(name string) string { return by.Kind + "-" + by.Name + "." + name }
	out := changeset.ChangeSet{Operations: slices.Clone(cs.Operations)}
	for i, op := range out.Operations {
		switch a := op.Action.(type) {
		case *changeset.ApplyManifests:
			b := *a
			b.Inventory = own(a.Inventory)
			out.Operations[i].Action = &b
		case *changeset.DeleteManifests:
			out.Operations[i].Action = &changeset.DeleteManifests{Inventory: own(a.Inventory)}
		}
	}
	return out
}

func covers(g plugin.ObjectGrant, r kube.Ref) bool {
	if g.Group != "*" && g.Group != r.Group {
		return false
	}
	if !slices.Contains(g.Kinds, "*") && !slices.Contains(g.Kinds, r.Kind) {
		return false
	}
	if r.Namespace == "" {
		return len(g.Namespaces) == 0 || slices.Contains(g.Namespaces, "*")
	}
	return slices.Contains(g.Namespaces, "*") || slices.Contains(g.Namespaces, r.Namespace)
}

// waitAddress waits until an address accepts connections.
func waitAddress(ctx context.Context, addr string) error {
	pause := 50 * time.Millisecond
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if !timer.Wait(ctx, pause) {
			return fmt.Errorf("%s does not accept connections: %w", addr, err)
		}
		pause = min(2*pause, time.Second)
	}
}
