package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// LeaveOptions say how a node goes.
type LeaveOptions struct {
	Force   bool `json:"force,omitempty"`   // also with the last copy of the data, or with nobody to tell
	NoDrain bool `json:"noDrain,omitempty"` // pods end where they are
}

// LastCopy is the reason of a refusal: with this node the data would go.
const LastCopy plugin.Reason = "LAST_COPY"

const (
	drainLimit = 5 * time.Minute
	tellLimit  = 30 * time.Second
	// lookLimit is longer than a worker's proxy needs to leave an API server
	// whose datastore is gone.
	lookLimit = 30 * time.Second
	// leaveFile holds the other control-plane nodes' agents while this node
	// goes: once it is no member it cannot ask.
	leaveFile = "var/leave.json"
)

// Leave takes this node out of its cluster and leaves nothing of the cluster
// on it. One that was interrupted is gone on with; half-joined nodes leave too.
func (n Node) Leave(ctx context.Context, o LeaveOptions) error {
	open, err := n.Journal.Open()
	if err != nil {
		return err
	}
	if open != nil && open.Verb == "join" && !(open.Forward && o.Force) {
		return n.giveUpJoin(ctx, open)
	}
	if n.Record == nil {
		return operation.ErrNoNode
	}
	r, err := n.Journal.Begin(ctx, "leave", o)
	if err != nil {
		return err
	}
	if err = n.leave(ctx, r, o); err != nil {
		return ended(r.End(ctx, err), r.Record)
	}
	if err := r.End(ctx, nil); err != nil {
		return err
	}
	return n.Root.RemoveAll(leaveFile)
}

// giveUpJoin takes a join back that was interrupted: on both sides where the
// cluster answers, else here; there it ends with its lease.
func (n Node) giveUpJoin(ctx context.Context, open *operation.Record) error {
	var o JoinOptions
	if err := json.Unmarshal(open.Params, &o); err != nil {
		return fmt.Errorf("read change %d: %w", open.Number, err)
	}
	j, err := n.beginJoin(ctx, o)
	switch {
	case err != nil:
		return err
	case !j.r.Resumed: // while this waited for the lock
		return errors.Join(&plugin.Error{Reason: plugin.NotPossible, Message: "that join has ended meanwhile", Next: "mk status"},
			j.r.GiveUp("there was no join to give up"))
	case j.r.Record.Forward:
		return errors.Join(&plugin.Error{Reason: plugin.NotPossible, Message: "this node votes in the datastore already: its join only goes forward",
			Next: "mk join, with the same string; then mk leave. Or, whatever it holds: mk leave --force"}, j.r.Release())
	}
	if err := j.connect(); err != nil {
		return errors.Join(err, j.r.Release())
	}
	defer j.client.Close()
	if err := j.undo(ctx); err != nil {
		return errors.Join(err, j.r.Release())
	}
	return j.r.GiveUp("given up by " + n.User)
}

// The steps of a leave after which it only goes forward.
const (
	leaveStep = "leave the datastore"
	tellStep  = "tell the cluster"
	wipeStep  = "remove what is the cluster's"
)

func (n Node) leave(ctx context.Context, r *operation.Run, o LeaveOptions) error {
	if outdated(n.Outdated()) {
		// The cluster goes on without it: nobody is to be told, and what this
		// node holds is no copy of the data.
		return r.Step(ctx, wipeStep, n.wipeCluster)
	}
	step := func(name string, do func(context.Context) error) error {
		if o.Force {
			do = n.tolerated(do)
		}
		return silent(r.Step(ctx, name, do), name)
	}
	if err := step("look at the cluster", func(ctx context.Context) error { return n.beforeLeave(ctx, o) }); outdated(err) {
		return r.Step(ctx, wipeStep, n.wipeCluster) // it heard of it meanwhile
	} else if err != nil {
		return err
	}
	if !o.NoDrain {
		if err := step("drain the node", func(ctx context.Context) error { return n.drainSelf(ctx, o) }); err != nil {
			return err
		}
	}
	if n.Record.Role == node.ControlPlane {
		if err := step("have the datastore saved", func(ctx context.Context) error { return n.saveElsewhere(ctx, o) }); err != nil {
			return err
		}
		if err := step(leaveStep, func(ctx context.Context) error {
			err := n.leaveDatastore(ctx, r, o)
			r.Record.Forward = r.Record.Forward || err == nil // it cannot ask its own API server any more
			return err
		}); err != nil {
			if n.stillMember(ctx) {
				return err
			}
			return errors.Join(err, r.GoForward())
		}
	}
	// With its member or its record goes what this node asks the cluster with:
	// one that begins anew would have nobody to look at.
	if err := r.GoForward(); err != nil {
		return err
	}
	if err := step(tellStep, n.tellLeft); err != nil {
		return err
	}
	return r.Step(ctx, wipeStep, n.wipeCluster)
}

// outdated reports whether an error says that the cluster goes on without this
// node.
func outdated(err error) bool {
	_, ok := errors.AsType[*operation.OutdatedError](err)
	return ok
}

// tolerated leaves out what cannot be done.
func (n Node) tolerated(do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		one, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err := do(one)
		if err == nil || ctx.Err() != nil { // whoever stopped it goes on with this step
			return err
		}
		n.detail(fmt.Sprintf("left out: %v", err))
		return nil
	}
}

// stillMember tells whether the datastore has this node as before; where nobody
// says so, it may have let go of it.
func (n Node) stillMember(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	members, err := n.DatastoreMembers(ctx)
	return n.Record.NoVote || err == nil && slices.ContainsFunc(members, func(m clustering.Member) bool { return m.Name == n.Record.Name })
}

// leaving is what is known of the cluster while this node goes.
type leaving struct {
	Agents  []string            `json:"agents"`
	Members []clustering.Member `json:"members,omitempty"`
}

// beforeLeave notes the other control-plane nodes. Where there is none, this
// node may hold the last copy of the data.
func (n Node) beforeLeave(ctx context.Context, o LeaveOptions) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	var all []*cluster.Member
	var l leaving
	err := n.whileSilent(ctx, o.patience(lookLimit), func(ctx context.Context) (err error) {
		if err := n.Outdated(); err != nil {
			return err
		}
		if all, err = n.Members(ctx); err == nil && n.Record.Role == node.ControlPlane {
			l.Members, err = n.DatastoreMembers(ctx)
		}
		return err
	})
	if outdated(err) {
		return err
	}
	if err != nil {
		return &plugin.Error{Reason: plugin.Unavailable, Message: "the cluster cannot be asked: " + err.Error(),
			Next: "mk leave --force goes without telling it; then on another node: mk remove-node " + n.Record.Name + " --force"}
	}
	l.Agents = []string{}
	copies := n.Record.Role == node.Worker
	for _, m := range all {
		if m.Name != n.Record.Name && m.State == cluster.Joined && m.Role == plugin.RoleControlPlane {
			l.Agents = append(l.Agents, m.Agent())
			copies = copies || !m.NoVote
		}
	}
	if !copies && !n.Record.NoVote {
		return &plugin.Error{Reason: LastCopy, Message: "this node holds the last copy of the cluster's data",
			Next: "mk reset --all removes node and data; mk leave --force does the same"}
	}
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("note the cluster's nodes: %w", err)
	}
	return n.Root.WriteFile(leaveFile, data, node.Perm{Mode: 0o600, UID: -1, GID: -1})
}

func (n Node) noted() (leaving, error) {
	var l leaving
	data, err := n.Root.ReadFile(leaveFile)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fmt.Errorf("%s: %w", n.Root.Path(leaveFile), err)
	}
	return l, nil
}

// drainSelf moves pods elsewhere. A worker has a control-plane node do it.
func (n Node) drainSelf(ctx context.Context, o LeaveOptions) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	if n.Record.Role == node.Worker {
		return n.askAny(ctx, o.patience(tellLimit), peer.DrainPath)
	}
	c, err := n.Kube()
	if err != nil {
		return err
	}
	return n.whileSilent(ctx, o.patience(tellLimit), func(ctx context.Context) error { return n.drained(ctx, c, n.Record.Name) })
}

// drained drains a node and takes it back in use where that fails.
func (n Node) drained(ctx context.Context, c *kube.Client, name string) error {
	err := c.Drain(ctx, name, kube.DrainOptions{Program: n.Programs.Bin(defaults.Kubelite)}, n.detail)
	if err == nil || kube.NotFound(err) {
		return nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(err, c.Uncordon(back, name))
}

// askAny asks the noted control-plane nodes until one has done it, and for as
// long as patience all of them again.
func (n Node) askAny(ctx context.Context, patience time.Duration, path string) error {
	l, err := n.noted()
	if err != nil {
		return err
	}
	return n.whileSilent(ctx, patience, func(ctx context.Context) error {
		return n.AskAgents(ctx, l.Agents, path, peer.Leave{Node: n.Record.Name}, nil)
	})
}

// patience is none where a node goes whoever answers.
func (o LeaveOptions) patience(d time.Duration) time.Duration {
	if o.Force {
		return 0
	}
	return d
}

// leaveDatastore has the strategy take this node's member out.
func (n Node) leaveDatastore(ctx context.Context, r *operation.Run, o LeaveOptions) error {
	l, err := n.noted()
	if err != nil {
		return err
	}
	c, who, facts, err := n.Strategy(ctx)
	if err != nil {
		return err
	}
	return r.Ask(ctx, "leave", who, func(ctx context.Context, call plugin.Call) (plugin.Answer, error) {
		return c.Leave(ctx, clustering.LeaveRequest{Call: call, Node: facts, Members: l.Members, Force: o.Force})
	}, nil)
}

// tellLeft has another node remove this one's object and record: with them go
// its rights.
func (n Node) tellLeft(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	return n.askAny(ctx, tellLimit, peer.LeavePath)
}

// wipeCluster stops the node and removes all that it had of the cluster: keys,
// plugins' state, datastore, undo copies. What people wrote stays: settings.
func (n Node) wipeCluster(ctx context.Context) error {
	n.forgetAll(ctx)
	if err := n.StopServices(ctx); err != nil {
		return err
	}
	if err := n.ClearMachine(ctx); err != nil {
		return err
	}
	errs := []error{
		n.removeAllBut(".", "var", "settings.yaml", "node.json"),
		n.removeAllBut("var", "journal", "lock", "log", "outdated.json"),
	}
	for _, name := range []string{"clustered.lock", "ha-cluster", "lite.lock", "no-etcd", "stopped.lock"} {
		errs = append(errs, n.Root.RemoveAll("var/lock/"+name))
	}
	// Until here a second call knows by it that there is nobody to ask.
	errs = append(errs, n.Root.RemoveAll("var/outdated.json"))
	return errors.Join(append(errs, n.Root.RemoveAll("node.json"))...)
}

// removeAllBut removes what lies in a folder, if there is one, but for some of
// it.
func (n Node) removeAllBut(folder string, keep ...string) error {
	entries, err := n.Root.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			errs = append(errs, n.Root.RemoveAll(path.Join(folder, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// forgetAll has every active plugin drop what belongs to the cluster. What it
// cannot drop elsewhere is named; its state folder goes in any case.
func (n Node) forgetAll(ctx context.Context) {
	lock, err := n.Dir.Lock()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, a := range lock.Active {
		if err := n.Plugins.Forget(ctx, a.Kind+"/"+a.Name); err != nil {
			n.detail(fmt.Sprintf("%s/%s: %v", a.Kind, a.Name, err))
		}
	}
}

// saveElsewhere has a node that stays take a snapshot: none stays on this one.
// What they hold is no less than before: that none can be taken is no error.
func (n Node) saveElsewhere(ctx context.Context, o LeaveOptions) error {
	err := n.askAny(ctx, o.patience(tellLimit), peer.SavePath)
	if err == nil || ctx.Err() != nil { // whoever stopped it goes on with this step
		return err
	}
	n.detail(fmt.Sprintf("no snapshot was taken: %v", err))
	return nil
}
