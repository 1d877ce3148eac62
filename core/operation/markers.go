package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// Asked is what a marker file asks for that a person or a tool has made or
// removed: it does not say what the node's record says.
type Asked struct {
	File string `json:"file"` // below the root
	Asks string `json:"asks"`
	Next string `json:"next"` // what follows it, or puts the file back

	lock.Marker `json:"-"`
}

// optional are the services without which a node can be: another program may
// route pods.
func optional() []string { return []string{defaults.Flanneld} }

// markers says for every marker file that mk knows whether it is there, going
// by the record.
func (n *Node) markers() map[string]bool {
	worker := n.Record.Role == node.Worker
	want := map[string]bool{
		lock.Stopped: n.Record.Stopped, lock.Lite: true, lock.HACluster: true, lock.Clustered: worker,
		lock.NoCertReissue: n.Record.KeepCertificates, lock.No(defaults.Etcd): worker,
	}
	for _, s := range defaults.ServiceNames(n.Record.Role) {
		want[lock.No(s)] = slices.Contains(n.Record.Off, s)
	}
	return want
}

// Requests lists what marker files ask for. It changes nothing.
func (n *Node) Requests() ([]Asked, error) {
	if n.Record == nil || n.Record.ClusterID == "" {
		return nil, nil
	}
	changed, err := lock.Changed(n.Root.Locks(), n.markers())
	if err != nil {
		return nil, err
	}
	out := make([]Asked, 0, len(changed))
	for _, m := range changed {
		r := Asked{File: "var/lock/" + m.Name, Marker: m, Next: "sudo mk restart"}
		r.Asks = map[bool]string{true: "to run", false: "not to run"}[!m.Present]
		switch {
		case m.Name == lock.Stopped && m.Present:
			r.Asks, r.Next = "to stop this node", "sudo mk stop"
		case m.Name == lock.Stopped:
			r.Asks, r.Next = "to start this node", "sudo mk start"
		case m.Name == lock.NoCertReissue && m.Present:
			r.Asks = "to keep the certificates when addresses change"
		case m.Name == lock.NoCertReissue:
			r.Asks = "to renew certificates when addresses change"
		case slices.ContainsFunc(optional(), func(s string) bool { return lock.No(s) == m.Name }):
			r.Asks += " " + m.Name[len(lock.No("")):]
		default:
			r.Asks, r.Next = "for what cannot be changed on a node", "sudo mk doctor services --fix"
		}
		out = append(out, r)
	}
	return out, nil
}

// checkRequests refuses a marker that asks for a node without a service that
// it needs.
func (n *Node) checkRequests() error {
	asked, err := n.Requests()
	if err != nil {
		return err
	}
	for _, r := range asked {
		for _, s := range defaults.ServiceNames(n.Record.Role) {
			if r.Name == lock.No(s) && r.Present && !slices.Contains(optional(), s) {
				return &node.FileError{Err: fmt.Errorf("%s: a %s node cannot be without %s; remove this file", n.Root.Path(r.File), n.Record.Role, s)}
			}
		}
	}
	return nil
}

// followRequests takes over into the record what marker files ask for, and
// puts back those that ask for what cannot be. Starting and stopping is not
// done here: who starts or stops, says so.
func (n *Node) followRequests(ctx context.Context, r *Run) error {
	asked, err := n.Requests()
	if err != nil {
		return err
	}
	record, back := *n.Record, changeset.ChangeSet{}
	for _, q := range asked {
		service := q.Name[min(len(lock.No("")), len(q.Name)):]
		switch {
		case q.Name == lock.Stopped:
		case q.Name == lock.NoCertReissue:
			record.KeepCertificates = q.Present
		case slices.Contains(optional(), service) && q.Present:
			record.Off = append(slices.Clone(record.Off), service)
		case slices.Contains(optional(), service):
			record.Off = slices.DeleteFunc(slices.Clone(record.Off), func(s string) bool { return s == service })
		case q.Present:
			back.Operations = append(back.Operations, changeset.Operation{Action: &changeset.ClearLock{Name: q.Name}})
		default:
			back.Operations = append(back.Operations, changeset.Operation{Action: &changeset.SetLock{Name: q.Name}})
		}
	}
	if len(back.Operations) > 0 {
		if err := r.Apply(ctx, back); err != nil {
			return err
		}
	}
	if record.KeepCertificates == n.Record.KeepCertificates && slices.Equal(record.Off, n.Record.Off) {
		return nil
	}
	off := slices.DeleteFunc(slices.Clone(record.Off), func(s string) bool { return slices.Contains(n.Record.Off, s) })
	if err := n.Root.SaveRecord(&record); err != nil {
		return err
	}
	n.SetRecord(&record)
	if len(off) == 0 {
		return nil
	}
	if err := notRunning(n.services.Stop(ctx, off...)); err != nil {
		return err
	}
	return (&serviceChanges{n}).Boot(ctx, false, off...)
}

// locked takes the node's record as it is: who held the operation lock until
// now may have changed it since the node was opened, or removed it.
func (n *Node) locked(verb string) error {
	record, err := n.Root.LoadRecord()
	if errors.Is(err, fs.ErrNotExist) {
		if n.Record != nil && verb != "join" && verb != "start" {
			return fmt.Errorf("%s: %w", n.Root.Dir(), ErrNoNode)
		}
		err = nil
	}
	if err == nil {
		n.SetRecord(record)
	}
	return err
}

// FollowRequests does what marker files ask for while the node runs. It
// reports whether they ask for the node to stop, which is the caller's to do:
// the services may include the caller.
func (n *Node) FollowRequests(ctx context.Context) (stop bool, err error) {
	if asked, err := n.Requests(); err != nil || len(asked) == 0 {
		return false, err
	}
	r, err := n.Journal.Begin(ctx, "follow markers", nil)
	if err != nil {
		return false, err
	}
	return stop, r.End(ctx, r.Step(ctx, "follow what marker files ask for", func(ctx context.Context) error {
		asked, err := n.Requests()
		if err != nil {
			return err
		}
		if stop = slices.ContainsFunc(asked, func(q Asked) bool { return q.Name == lock.Stopped && q.Present }); stop {
			return nil
		}
		if err := n.checkRequests(); err != nil {
			return err
		}
		before := n.serviceNames()
		if err := n.followRequests(ctx, r); err != nil {
			return err
		}
		on := slices.DeleteFunc(n.serviceNames(), func(s string) bool { return slices.Contains(before, s) })
		if len(on) == 0 {
			return nil
		}
		return n.services.Start(ctx, on...)
	}))
}
