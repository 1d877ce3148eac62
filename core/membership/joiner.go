package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/seal"
)

// joiner is the record of a join under way that a caller may speak for; what
// it has here is prolonged.
func (n Node) joiner(ctx context.Context, store cluster.Members, who Caller, operation string) (*cluster.Member, error) {
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	return n.joinerAmong(ctx, store, all, who, operation)
}

// joinerAmong is joiner where the records were read.
func (n Node) joinerAmong(ctx context.Context, store cluster.Members, all []*cluster.Member, who Caller, operation string) (*cluster.Member, error) {
	m := joining(all, who, operation)
	if m == nil || !m.Live(n.Now()) {
		return nil, &plugin.Error{Reason: JoinEnded, Message: "no join of that key is under way here: it has ended, or was never begun", Next: "mk join, with a connection string"}
	}
	if m.Until.Sub(n.Now()) < joinLease/2 {
		m.Until = n.Now().Add(joinLease).UTC()
		if err := store.Put(ctx, m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// joining is the record of a caller's join, or nil; its lease may have ended.
func joining(all []*cluster.Member, who Caller, operation string) *cluster.Member {
	i := slices.IndexFunc(all, func(m *cluster.Member) bool {
		return m.State == cluster.Joining && m.Operation == operation && m.Key == who.Key && who.Key != ""
	})
	if i < 0 {
		return nil
	}
	return all[i]
}

// JoinSecrets seals what control-plane nodes share for an admitted joiner:
// each plugin's state to that plugin's key, the core's to its own. All is
// bound to the reservation.
func (n Node) JoinSecrets(ctx context.Context, who Caller, s peer.Secrets) (*peer.Sealed, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	m, err := n.joiner(ctx, store, who, s.Operation)
	if err != nil {
		return nil, err
	}
	if m.Role != plugin.RoleControlPlane {
		return nil, plugin.Errorf(NotPermitted, "a worker holds none of the cluster's keys")
	}
	binding := []byte(m.Reservation)
	out := &peer.Sealed{Sealed: map[string]plugin.Sealed{}}
	for name, recipient := range s.Recipients {
		if name == peer.CoreRecipient {
			data, err := n.coreSecrets()
			if err != nil {
				return nil, err
			}
			sealed, err := seal.Seal(recipient, binding, data)
			if err != nil {
				return nil, err
			}
			out.Sealed[name] = plugin.Sealed{Data: sealed}
			continue
		}
		p, err := n.Plugins.Exporter(ctx, name)
		if err != nil {
			return nil, err
		}
		if out.Sealed[name], err = p.Export(ctx, plugin.Call{OperationID: s.Operation + "/export"}, recipient, binding); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// coreSecrets are what the core of a control-plane node shares: the key of
// service accounts and the settings of the active plugins, some of them secret.
func (n Node) coreSecrets() ([]byte, error) {
	key, err := n.Root.ReadFile(operation.ServiceAccountKey)
	if err != nil {
		return nil, err
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	own := peer.CoreSecrets{ServiceAccountKey: key, Settings: map[string][]byte{}}
	for _, a := range lock.Active {
		data, err := n.Root.ReadFile("plugins/" + pluginsdir.SettingsName(a.Kind, a.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		own.Settings[a.Kind+"/"+a.Name] = data
	}
	data, err := json.Marshal(own)
	if err != nil {
		return nil, fmt.Errorf("seal the cluster's keys: %w", err)
	}
	return data, nil
}

// callerRecord is the record of the node that asks.
func (n Node) callerRecord(ctx context.Context, store cluster.Members, who Caller, operation string) (*cluster.Member, error) {
	if operation != "" {
		return n.joiner(ctx, store, who, operation)
	}
	if who.Member == "" {
		return nil, plugin.Errorf(NotAllowed, "this is for nodes of the cluster")
	}
	m, err := store.Get(ctx, who.Member)
	if err != nil {
		return nil, err
	}
	if m == nil || !speaks(m, who) {
		return nil, plugin.Errorf(NotAllowed, "%s is no node of this cluster any more", who.Member)
	}
	return m, nil
}

// CommitJoin makes a joiner a member and spends its token; again is no error,
// because the answer may have been lost.
func (n Node) CommitJoin(ctx context.Context, who Caller, ref peer.Ref) error {
	store, all, err := n.records(ctx)
	if err != nil {
		return err
	}
	if committed(all, who, ref.Operation) != nil {
		return nil
	}
	m, err := n.joinerAmong(ctx, store, all, who, ref.Operation)
	if err != nil {
		return err
	}
	if err := n.mark(ctx, store.Client, m); err != nil {
		return err
	}
	if err := (cluster.Reports{Client: store.Client}).Grant(ctx, m.Name); err != nil {
		return err
	}
	t, _, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return err
	}
	if err := t.Commit(ctx, plugin.Call{OperationID: ref.Operation + "/commit"}, m.Reservation); err != nil {
		return err
	}
	defer n.forget(m)
	m.State, m.Joined, m.Seen = cluster.Joined, n.Now().UTC(), n.Now().UTC()
	// Operation and Key stay: by them a commit is known that is asked again.
	m.Reservation, m.Server, m.Until, m.TakeBack, m.Forward = "", "", time.Time{}, nil, false
	return store.Put(ctx, m)
}

// mark gives a joiner's node the labels and taints that it was to have: a
// kubelet sets some of them only when it registers.
func (n Node) mark(ctx context.Context, c *kube.Client, m *cluster.Member) error {
	if len(m.Labels) > 0 {
		if err := c.SetLabels(ctx, m.Name, m.Labels, nil); err != nil {
			return plugin.Errorf(plugin.BadArgument, "%v", err)
		}
	}
	var taints []kube.Taint
	for _, text := range m.Taints {
		t, err := ParseTaint(text)
		if err != nil {
			return err
		}
		taints = append(taints, t)
	}
	if len(taints) == 0 {
		return nil
	}
	if err := c.SetTaints(ctx, m.Name, taints, nil); err != nil {
		return plugin.Errorf(plugin.BadArgument, "%v", err)
	}
	return nil
}

// ParseTaint reads KEY[=VALUE]:EFFECT, as kubectl does.
func ParseTaint(text string) (kube.Taint, error) {
	pair, effect, ok := strings.Cut(text, ":")
	key, value, _ := strings.Cut(pair, "=")
	if !ok || key == "" || !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) {
		return kube.Taint{}, plugin.Errorf(plugin.BadArgument, "the taint %.100q is not KEY=VALUE:EFFECT, with NoSchedule, PreferNoSchedule or NoExecute", text)
	}
	return kube.Taint{Key: key, Value: value, Effect: effect}, nil
}

// ReleaseJoin takes back all that a joiner has here, also where it was
// committed and did not hear of it. One that has nothing is no error.
func (n Node) ReleaseJoin(ctx context.Context, who Caller, ref peer.Ref) (*peer.Released, error) {
	store, all, err := n.records(ctx)
	if err != nil {
		return nil, err
	}
	out := &peer.Released{Held: slices.ContainsFunc(all, func(m *cluster.Member) bool {
		return m.State == cluster.Joining && m.Operation != ref.Operation && m.Key == who.Key && who.Key != ""
	})}
	return out, n.releaseJoin(ctx, store, all, who, ref)
}

func (n Node) releaseJoin(ctx context.Context, store cluster.Members, all []*cluster.Member, who Caller, ref peer.Ref) error {
	if m := committed(all, who, ref.Operation); m != nil && (m.Role == plugin.RoleWorker || m.NoVote) {
		return n.ForgetNode(ctx, m.Name)
	}
	m, err := n.joinerAmong(ctx, store, all, who, ref.Operation)
	if errors.Is(err, JoinEnded) {
		// What its lease leaves to be taken back must not outlast the joiner,
		// which takes its own side back when this is answered.
		if m = joining(all, who, ref.Operation); m == nil {
			return nil
		}
		err = nil
	}
	if err != nil {
		return err
	}
	return n.takeBack(ctx, store, m)
}

// takeBack undoes what was done here for a join that failed: datastore
// member, node object, reservation and record.
func (n Node) takeBack(ctx context.Context, store cluster.Members, m *cluster.Member) error {
	defer n.forget(m)
	if m.TakeBack != nil && len(m.TakeBack.Operations) > 0 {
		if err := n.ServeChanges(ctx, "take back the join of "+m.Name, m.Operation+"/back", *m.TakeBack); err != nil {
			return err
		}
	}
	// Whether a certificate is out nobody knows.
	if err := n.Expel(ctx, store, m.Name); err != nil {
		return err
	}
	if m.Server == n.Record.Name && m.Reservation != "" {
		t, _, err := n.Plugins.Tokens(ctx)
		if err != nil {
			return err
		}
		if err := revokeAll(ctx, t, m); err != nil {
			return err
		}
		// NotPossible: it was spent by a commit that was killed on its way.
		err = t.Release(ctx, plugin.Call{OperationID: m.Operation + "/release"}, m.Reservation)
		if err != nil && !errors.Is(err, plugin.TokenUnknown) && !errors.Is(err, plugin.NotPossible) {
			return err
		}
	}
	deleted := store.Delete(ctx, m)
	if _, err := n.Relist(ctx, store, m.Name); err != nil {
		return err
	}
	return deleted // it was gone on with meanwhile, where it says so
}

// ReapJoins takes back the joins whose lease has ended: a joiner that died
// leaves neither member nor node behind.
func (n Node) ReapJoins(ctx context.Context) (next time.Time, err error) {
	store, all, err := n.records(ctx)
	if err != nil {
		return next, err
	}
	var errs []error
	for _, m := range all {
		if m.State != cluster.Joining {
			continue
		}
		if m.Live(n.Now()) {
			if next.IsZero() || m.Until.Before(next) {
				next = m.Until
			}
			continue
		}
		// To take the others back took its time: it may have begun anew.
		now, err := store.Get(ctx, m.Name)
		if err == nil && now != nil && now.State == cluster.Joining && !now.Live(n.Now()) {
			err = n.takeBack(ctx, store, now)
		}
		if err != nil && !errors.Is(err, cluster.ErrChanged) {
			errs = append(errs, err)
		}
	}
	return next, errors.Join(errs...)
}

// Known reports as an error that a caller is neither a member nor a joiner of
// the control plane.
func (n Node) Known(ctx context.Context, who Caller, operation string) error {
	store, err := n.Store()
	if err != nil {
		return err
	}
	m, err := n.callerRecord(ctx, store, who, operation)
	if err == nil && m.Role != plugin.RoleControlPlane {
		err = plugin.Errorf(NotPermitted, "a worker runs no plugins")
	}
	return err
}
