package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/timer"
	"mk8s.io/mk/sdk/changeset"
)

// clocksApart is how far the clocks of a cluster's nodes may be apart.
const clocksApart = 2 * time.Minute

// heldFile is what this node last made of what the cluster wants.
const heldFile = "var/wanted.json"

// held is the content of heldFile.
type held struct {
	Generation int                `json:"generation"`
	Arguments  []cluster.Argument `json:"arguments,omitempty"` // this node's part
	// Local are options that someone made otherwise here, with --local: they stay
	// so until the cluster's wish for them is set anew.
	Local []cluster.Argument `json:"local,omitempty"`

	digest string
}

func (n *Node) held() (*held, error) {
	h := &held{digest: changeset.Absent}
	data, err := n.Root.ReadFile(heldFile)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, h); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Root.Path(heldFile), err)
	}
	h.digest = changeset.DigestOf(data)
	return h, nil
}

// write is the operation that keeps h, over what was read.
func (h *held) write() (changeset.Operation, error) {
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return changeset.Operation{}, fmt.Errorf("keep what the cluster wants: %w", err)
	}
	return changeset.Operation{Expects: h.digest, Action: &changeset.WriteFile{Path: heldFile, Content: append(data, '\n'), Mode: 0o600, Secret: true}}, nil
}

// overridden reports whether an option was made otherwise here since it was
// wanted.
func (h *held) overridden(a cluster.Argument) bool {
	return slices.ContainsFunc(h.Local, func(l cluster.Argument) bool {
		return l.Service == a.Service && l.Option == a.Option && l.Generation >= a.Generation
	})
}

// agentKube is a client with this node's own rights, and no more.
func (n *Node) agentKube() (*kube.Client, error) {
	return kube.ConnectFile(n.Root.Credentials("agent.config"), kube.Options{Version: n.Version})
}

// WatchWanted calls see each time that the cluster wants something else, until
// ctx ends, which is the error.
func (n *Node) WatchWanted(ctx context.Context, see func(), trouble func(error)) error {
	c, err := n.agentKube()
	if err != nil {
		return err
	}
	defer c.Close()
	return cluster.Wishes{Client: c}.Watch(ctx, func(*cluster.Wanted, error) { see() }, trouble)
}

// again is how long a node leaves a wish alone that it has failed to do: each
// time twice as long, for less than a day. To try it may end its services.
func again(tries int) time.Duration { return 10 * time.Minute << min(max(tries, 1)-1, 7) }

// FollowWanted makes this node as the cluster wants it and reports; last is
// what it answered before, or nil. A wish that failed is tried again after
// growing pauses, or when something else is wanted. The report says that it failed: the
// error is of what kept it from reporting.
func (n *Node) FollowWanted(ctx context.Context, last *cluster.Report) (*cluster.Report, error) {
	c, err := n.agentKube()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	w, err := cluster.Wishes{Client: c}.Get(ctx)
	if err != nil {
		return nil, err
	}
	failed := cluster.Report{}
	tries := 0
	if last != nil && last.Tried == w.Generation {
		tries = last.Tries
	}
	if tries > 0 && n.Now().Sub(last.TriedAt) < again(tries) {
		failed = *last
	} else if err := n.applyAll(ctx, w); err != nil {
		failed.Error, failed.Tried, failed.Tries, failed.TriedAt = oneLine(err.Error()), w.Generation, tries+1, n.Now().UTC()
	}
	report, err := n.report(w)
	if err != nil {
		return nil, err
	}
	report.Error, report.Tried, report.Tries, report.TriedAt = failed.Error, failed.Tried, failed.Tries, failed.TriedAt
	return report, putReport(context.WithoutCancel(ctx), c, report)
}

func (n *Node) applyAll(ctx context.Context, w *cluster.Wanted) error {
	err := n.applyWanted(ctx, w)
	for i := 1; i < maxAsked && errors.Is(err, change.ErrStale); i++ {
		err = n.applyWanted(ctx, w)
	}
	return err
}

// putReport writes a report, in spite of an API server that restarts as it was
// wanted to.
func putReport(ctx context.Context, c *kube.Client, r *cluster.Report) error {
	ctx, cancel := context.WithTimeout(ctx, farLimit)
	defer cancel()
	for {
		err := cluster.Reports{Client: c}.Put(ctx, r)
		if err == nil || kube.NotFound(err) {
			return err
		}
		if !timer.Wait(ctx, time.Second) {
			return err
		}
	}
}

// ReportSoon says what this node is like just now, if the API server hears it
// within reportLimit: else the agent says it later.
func (n *Node) ReportSoon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	c, err := n.agentKube()
	if err != nil {
		return
	}
	defer c.Close()
	for {
		w, err := cluster.Wishes{Client: c}.Get(ctx)
		if err == nil {
			if r, err := n.report(w); err == nil {
				_ = putReport(ctx, c, r)
			}
			return
		}
		if !timer.Wait(ctx, time.Second) {
			return
		}
	}
}

// reportLimit is how long a command waits to have its node's report written:
// what it changed may have the API server start again.
const reportLimit = 30 * time.Second

// applyWanted makes this node as it is wanted, as one ChangeSet under the apply
// lock. What is as wanted already costs nothing.
func (n *Node) applyWanted(ctx context.Context, w *cluster.Wanted) error {
	h, err := n.held()
	if err != nil {
		return err
	}
	ops, err := n.wantedArguments(w, h)
	if err != nil {
		return err
	}
	renewals, err := n.wantedRenewals(w, h)
	if err != nil {
		return err
	}
	ops = append(ops, renewals...)
	restart, err := n.wantedRestarts(ctx, w, h, ops)
	if err != nil {
		return err
	}
	for _, s := range restart {
		ops = append(ops, changeset.Operation{Action: &changeset.ControlService{Service: s, Action: changeset.Restart}})
	}
	next := &held{Generation: w.Generation, Arguments: w.For(n.Record.Name), digest: h.digest}
	for _, l := range h.Local {
		if slices.ContainsFunc(next.Arguments, func(a cluster.Argument) bool {
			return a.Service == l.Service && a.Option == l.Option && a.Generation <= l.Generation
		}) {
			next.Local = append(next.Local, l)
		}
	}
	keep, err := next.write()
	if err != nil {
		return err
	}
	if lines, err := n.Engine.Preview(changeset.ChangeSet{Operations: []changeset.Operation{keep}}); err != nil {
		return err
	} else if len(ops) == 0 && lines[0].Effect == "nothing" {
		return nil
	}
	return n.inTurn(ctx, restart, func() error {
		return n.applyFar(ctx, w.Generation, restart, changeset.ChangeSet{Operations: append(ops, keep)})
	})
}

// wantedArguments are the operations that make the args files as wanted; none
// for what is so.
func (n *Node) wantedArguments(w *cluster.Wanted, h *held) ([]changeset.Operation, error) {
	var ops []changeset.Operation
	part := w.For(n.Record.Name)
	for _, was := range h.Arguments {
		if was.Owner != "" && !slices.ContainsFunc(part, was.Same) {
			ops = append(ops, changeset.Operation{Action: &changeset.RemoveArgument{Service: was.Service, Option: was.Option, Owner: was.Owner}})
		}
	}
	for _, a := range part {
		if h.overridden(a) || !slices.Contains(n.ArgumentFiles(), a.Service) {
			continue // a worker has no API server, and so on
		}
		var action changeset.Action = &changeset.SetArgument{Service: a.Service, Option: a.Option, Owner: a.Owner, Value: a.Value, Secret: a.Secret}
		if a.Unset {
			action = &changeset.RemoveArgument{Service: a.Service, Option: a.Option, Owner: a.Owner}
		}
		ops = append(ops, changeset.Operation{Action: action})
	}
	lines, err := n.Engine.Preview(changeset.ChangeSet{Operations: ops})
	if err != nil {
		return nil, err
	}
	var changed []changeset.Operation
	for i, l := range lines {
		if l.Effect != "nothing" {
			changed = append(changed, ops[i])
		}
	}
	return changed, nil
}

// wantedRestarts are the services that read what changes, and those whose
// restart is wanted and that have not had it.
func (n *Node) wantedRestarts(ctx context.Context, w *cluster.Wanted, h *held, ops []changeset.Operation) ([]string, error) {
	var out []string
	add := func(name string) {
		if name = service.Alias(name); name != defaults.Agent && slices.Contains(n.serviceNames(), name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, op := range ops {
		switch a := op.Action.(type) {
		case *changeset.SetArgument:
			add(serviceOf(a.Service))
		case *changeset.RemoveArgument:
			add(serviceOf(a.Service))
		}
	}
	var since map[string]time.Time
	apart := clocksApart
	if h.Generation == 0 {
		apart = 0 // it has just joined: what was wanted before is not for it
	}
	for _, r := range w.Restarts {
		if r.Generation <= h.Generation || (r.Node != "" && r.Node != n.Record.Name) {
			continue
		}
		if since == nil {
			list, err := n.services.Status(ctx)
			if err != nil {
				return nil, err
			}
			since = map[string]time.Time{}
			for _, s := range list {
				since[s.Name] = s.Since
			}
		}
		names := r.Services
		if len(names) == 0 {
			names = n.serviceNames()
		}
		for _, name := range names {
			// Who was started later than it was wanted, by any clock that other
			// nodes may have, has had it.
			if since[service.Alias(name)].Before(r.At.Add(apart)) {
				add(name)
			}
		}
	}
	return out, nil
}

// wantedRenewals renew the certificates whose renewal is wanted and that have
// not had it: once, however often it was wanted meanwhile.
func (n *Node) wantedRenewals(w *cluster.Wanted, h *held) ([]changeset.Operation, error) {
	own, due := n.Profiles(), []string{}
	for _, r := range w.Renewals {
		// Who has just joined has new ones, unless it is meant by its name.
		if r.Generation <= h.Generation || (r.Node == "" && h.Generation == 0) || (r.Node != "" && r.Node != n.Record.Name) {
			continue
		}
		for _, p := range own {
			if (len(r.Profiles) == 0 || slices.Contains(r.Profiles, p)) && !slices.Contains(due, p) {
				due = append(due, p)
			}
		}
	}
	cs, err := n.renewal(due)
	return cs.Operations, err
}

// inTurn does what restarts this node's control plane when no other does.
func (n *Node) inTurn(ctx context.Context, restart []string, do func() error) (err error) {
	if n.Record.Role != node.ControlPlane || !slices.ContainsFunc(restart, func(s string) bool { return s == defaults.Kubelite || s == defaults.Etcd }) {
		return do()
	}
	c, err := n.Kube()
	if err != nil {
		return err
	}
	back, err := cluster.Turns{Client: c, Now: n.Now}.Take(ctx, n.Record.Name, n.detail)
	if err != nil {
		return err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, back(late))
	}()
	return do()
}

// farLimit is how long a node may take to be well with what was applied.
const farLimit = 2 * time.Minute

// applyFar applies a ChangeSet that other nodes want. Where a service does not
// stay up with it, all is taken back: a wish that breaks a node must not break
// the cluster, node by node.
func (n *Node) applyFar(ctx context.Context, generation int, restart []string, cs changeset.ChangeSet) error {
	r, err := n.Journal.serve("wanted", fmt.Sprintf("wanted-%d-%s", generation, n.Record.ID))
	if err != nil {
		return err
	}
	err = r.Apply(ctx, cs)
	if err == nil && slices.Contains(restart, defaults.Kubelite) {
		err = n.settled(ctx, restart)
		if why, ok := errors.AsType[*NotReadyError](err); ok && why.Broken() {
			err = errors.Join(err, n.Engine.Undo(context.WithoutCancel(ctx), change.ID{Operation: r.Record.Number, Change: r.Record.Changes}))
		}
	}
	return r.End(ctx, err)
}

// settled waits until Kubernetes is up on this node, after a restart, and stays so.
func (n *Node) settled(ctx context.Context, names []string) error {
	return n.patiently(ctx, farLimit, func(ctx context.Context) error {
		err := waitAddress(ctx, "127.0.0.1:10250") // the kubelet's
		if err != nil || n.Record.Role != node.ControlPlane {
			return err
		}
		c, err := n.Kube()
		if err != nil {
			return err
		}
		return n.upWith(ctx, c, names, func(context.Context) error { return nil })
	})
}

// Drift is where this node is not as the cluster wants it, by what it was last
// told: no other node is asked.
func (n *Node) Drift() ([]cluster.Drift, error) {
	h, err := n.held()
	if err != nil {
		return nil, err
	}
	return n.drift(h.Arguments, h)
}

func (n *Node) drift(part []cluster.Argument, h *held) ([]cluster.Drift, error) {
	var out []cluster.Drift
	files := n.ArgumentFiles()
	for _, a := range part {
		if !slices.Contains(files, a.Service) {
			continue
		}
		f, err := args.Load(n.Root.Args(a.Service))
		if err != nil {
			return nil, err
		}
		same, have := asWished(f, a)
		if same {
			continue
		}
		if a.Secret {
			have = "‹another›"
		}
		out = append(out, cluster.Drift{What: a.Service + " --" + a.Option, Want: wantText(a), Have: fmt.Sprintf("%.200s", have), Local: h.overridden(a)})
	}
	return out, nil
}

// report is what this node says of itself.
func (n *Node) report(w *cluster.Wanted) (*cluster.Report, error) {
	h, err := n.held()
	if err != nil {
		return nil, err
	}
	out := &cluster.Report{
		Node: n.Record.Name, Generation: h.Generation, At: n.Now().UTC(),
		Versions: map[string]string{"mk": n.Version, "kubernetes": KubernetesVersion},
	}
	if out.Drift, err = n.drift(w.For(n.Record.Name), h); err != nil {
		return nil, err
	}
	if n.Record.Role == node.ControlPlane {
		out.Plugins, err = n.activePlugins()
	}
	return out, err
}
