package operation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/sdk/changeset"
)

// maxRewritten is the largest secret file whose mode is repaired.
const maxRewritten = 1 << 20

// Repair is what doctor can put right by itself: only what stands in the
// node's record, and never anything that a person wrote.
type Repair struct {
	Changes  changeset.ChangeSet
	Services []string // to restart
}

// Empty tells that there is nothing to do.
func (r Repair) Empty() bool { return len(r.Changes.Operations)+len(r.Services) == 0 }

// FindRepair looks what can be put right in some of the areas certs,
// permissions and services. It changes nothing.
func (n *Node) FindRepair(ctx context.Context, areas []string) (Repair, error) {
	var r Repair
	if n.Record == nil || n.Record.ClusterID == "" {
		return r, nil
	}
	if slices.Contains(areas, "certs") {
		broken, err := n.brokenCertificates()
		if err != nil {
			return r, err
		}
		if len(broken) > 0 {
			if r.Changes, err = n.renewal(broken); err != nil {
				return r, err
			}
		}
	}
	if slices.Contains(areas, "permissions") {
		for _, name := range n.OpenSecrets() {
			data, err := n.Root.ReadFile(name)
			if err != nil {
				return r, err
			}
			if len(data) <= maxRewritten {
				r.Changes.Operations = append(r.Changes.Operations, changeset.Operation{Action: &changeset.WriteFile{Path: name, Content: data, Secret: true}})
			}
		}
	}
	if slices.Contains(areas, "services") {
		back, err := n.wrongMarkers()
		if err != nil {
			return r, err
		}
		r.Changes.Operations = append(r.Changes.Operations, back...)
		r.Services, err = n.deadServices(ctx)
		return r, err
	}
	return r, nil
}

// DryRepair is the plan of Repair.
func (n *Node) DryRepair(ctx context.Context, r Repair) (*Plan, error) {
	p, err := n.preview(ctx, r.Changes)
	if err == nil && len(r.Services) > 0 {
		p.Changes = append(p.Changes, n.DryRestart(r.Services...).Changes...)
	}
	return p, err
}

// Repair puts right what FindRepair found.
func (n *Node) Repair(ctx context.Context, repair Repair) error {
	changes, err := json.Marshal(repair.Changes)
	if err != nil {
		return fmt.Errorf("record what is repaired: %w", err)
	}
	r, err := n.Journal.Begin(ctx, "doctor", []any{repair.Services, changeset.DigestOf(changes)}) // they hold secrets
	if err != nil {
		return err
	}
	err = r.Step(ctx, "repair files", func(ctx context.Context) error { return r.Apply(ctx, repair.Changes) })
	if err == nil && len(repair.Services) > 0 {
		err = r.Step(ctx, "restart services", func(ctx context.Context) error {
			if n.Record.Stopped {
				return nil // since they were found dead
			}
			if err := n.ensureManager(ctx); err != nil {
				return err
			}
			if err := n.refreshServices(ctx); err != nil {
				return err
			}
			return n.services.Restart(ctx, repair.Services...)
		})
	}
	return r.End(ctx, err)
}

// brokenCertificates are those with which something fails already.
func (n *Node) brokenCertificates() ([]string, error) {
	list, err := n.Certificates()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range list {
		for _, reason := range c.Reasons {
			if reason.Urgent() {
				out = append(out, c.Profile)
				break
			}
		}
	}
	return out, nil
}

// OpenSecrets are the files with keys and tokens that everyone may read.
func (n *Node) OpenSecrets() []string {
	var out []string
	for _, dir := range []string{"certs", "credentials", "var/kubernetes/backend"} {
		entries, err := n.Root.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			info, err := e.Info()
			secret := !n.oldPublic(dir, e.Name()) && path.Ext(e.Name()) != ".crt" && (dir != "certs" || path.Ext(e.Name()) == ".key")
			if err == nil && secret && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
				out = append(out, path.Join(dir, e.Name()))
			}
		}
	}
	return out
}

// oldPublic says whether a file is one that a change keeps of an old one, and
// no secret: its name does not tell what it was.
func (n *Node) oldPublic(dir, name string) bool {
	if dir == "credentials" || !node.IsTemporary(name) {
		return false
	}
	data, err := n.Root.ReadFile(path.Join(dir, name))
	return err == nil && !bytes.Contains(data, []byte("PRIVATE KEY"))
}

// wrongMarkers are marker files that do not say what the record says.
func (n *Node) wrongMarkers() ([]changeset.Operation, error) {
	changed, err := lock.Changed(n.Root.Locks(), n.markers())
	if err != nil {
		return nil, err
	}
	var out []changeset.Operation
	for _, m := range changed {
		if m.Present {
			out = append(out, changeset.Operation{Action: &changeset.ClearLock{Name: m.Name}})
		} else {
			out = append(out, changeset.Operation{Action: &changeset.SetLock{Name: m.Name}})
		}
	}
	return out, nil
}

// deadServices are those that should run and do not.
func (n *Node) deadServices(ctx context.Context) ([]string, error) {
	if n.Record.Stopped {
		return nil, nil
	}
	list, err := n.services.Status(ctx)
	if err := notRunning(err); err != nil {
		return nil, err
	}
	running := map[string]bool{}
	for _, s := range list {
		running[s.Name] = s.State != service.Failed && s.State != service.Stopped && s.State != service.Backoff
	}
	return slices.DeleteFunc(n.serviceNames(), func(name string) bool { return running[name] }), nil
}
