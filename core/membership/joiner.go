package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
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
	// It certifies itself from now on.
	if err := n.letRegister(ctx, store, m); err != nil {
		return nil, err
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

// SignFor certifies keys of the caller's own node, for the names that its
// record has and the profiles that its role may hold. Those of a join that
// began here are certified while the record is read and its programs are let
// in: nobody gets them unless it still says the same.
func (n Node) SignFor(ctx context.Context, who Caller, s peer.Sign) (*peer.Signed, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	var certified [][]byte
	var refused error
	var early sync.WaitGroup
	began := n.began(who, s.Operation)
	if began != nil {
		early.Go(func() { certified, refused = n.certify(within, began, s.Requests) })
	}
	m, err := n.signRecord(ctx, store, who, s)
	if err == nil {
		err = n.letRegister(ctx, store, m)
	}
	if err != nil {
		cancel()
	}
	early.Wait()
	if err != nil {
		return nil, err
	}
	if began == nil || began.Name != m.Name || began.Address != m.Address || !slices.Equal(began.Addresses, m.Addresses) {
		certified, refused = n.certify(ctx, m, s.Requests)
	}
	if refused != nil {
		return nil, refused
	}
	return n.answer(ctx, store, m, s.Requests, certified, nil)
}

// began is the record of a caller's join as it was when it began on this node,
// or nil: it may have ended since.
func (n Node) began(who Caller, operation string) *cluster.Member {
	m, _ := n.Begun.Load(operation + who.Key)
	began, _ := m.(*cluster.Member)
	return began
}

// signRecord is the record of the node that asks for certificates. A joiner
// that says its name is not looked for among all.
func (n Node) signRecord(ctx context.Context, store cluster.Members, who Caller, s peer.Sign) (*cluster.Member, error) {
	if s.Operation == "" || pki.CheckNodeName(s.Node) != nil {
		return n.callerRecord(ctx, store, who, s.Operation)
	}
	m, err := store.Get(ctx, s.Node)
	if err != nil {
		return nil, err
	}
	return n.joinerAmong(ctx, store, slices.DeleteFunc([]*cluster.Member{m}, func(m *cluster.Member) bool { return m == nil }), who, s.Operation)
}

// certify has keys of a node certified.
func (n Node) certify(ctx context.Context, m *cluster.Member, requests []peer.SignEntry) ([][]byte, error) {
	if len(requests) == 0 || len(requests) > len(pki.Profiles()) {
		return nil, plugin.Errorf(plugin.BadArgument, "%d certificates cannot be asked for at once", len(requests))
	}
	names, err := operation.NormalNames([]string{m.Name}, append([]string{"127.0.0.1", m.Address}, m.Addresses...))
	if err != nil {
		return nil, err
	}
	batch := make([]operation.Request, len(requests))
	for i, r := range requests {
		if batch[i], err = signable(m, names, r); err != nil {
			return nil, err
		}
	}
	return n.Issuer.SignFor(ctx, "for/"+m.Name, batch)
}

// answer notes the key of a node's agent that was certified, before anybody
// has the certificate: a key that is not known is not taken. noted may change
// the record further before it is written.
func (n Node) answer(ctx context.Context, store cluster.Members, m *cluster.Member, requests []peer.SignEntry, certified [][]byte, noted func()) (*peer.Signed, error) {
	for i, signed := range certified {
		if requests[i].Profile != pki.NodeAgent {
			continue
		}
		cert, err := pki.ParseCertificate(signed)
		if err != nil {
			return nil, err
		}
		noteKey(m, peer.Fingerprint(cert))
		if noted != nil {
			noted()
		}
		if err := store.Put(ctx, m); err != nil {
			return nil, err
		}
	}
	return &peer.Signed{Certificates: certified}, nil
}

// letRegister has the API servers let a joiner's programs in, and notes that
// before: if the join is taken back, they are refused again.
func (n Node) letRegister(ctx context.Context, store cluster.Members, m *cluster.Member) error {
	if m.State != cluster.Joining || m.Certified && !m.Barred {
		return nil
	}
	var barred bool
	group, within := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		barred, err = n.Barred(within, store, m.Name)
		return err
	})
	// Its agent reads what the cluster wants as soon as it runs. Rights that
	// nobody has a certificate for are nothing; a certificate without them would
	// stay so, since this is done once.
	if m.Guest == nil && !m.Certified {
		group.Go(func() error { return cluster.Reports{Client: store.Client}.Grant(within, m.Name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// Off the list already, by who was killed in between, it is not noted so yet.
	m.Barred = m.Barred || barred
	m.Certified = true
	if err := store.Put(ctx, m); err != nil {
		return err
	}
	if !m.Barred {
		return nil
	}
	if err := n.Unbar(ctx, store, m.Name); err != nil {
		return err
	}
	m.Barred = false
	return store.Put(ctx, m)
}

// signable holds one request to the policy: profile, key and names.
func signable(m *cluster.Member, names pki.Names, r peer.SignEntry) (operation.Request, error) {
	p, err := pki.Find(r.Profile)
	if err != nil {
		return operation.Request{}, plugin.Errorf(plugin.BadArgument, "%v", err)
	}
	if !slices.Contains(operation.NodeProfiles(node.Worker), p.Name) {
		return operation.Request{}, plugin.Errorf(NotPermitted, "a certificate %s is not made for another node", p.Name)
	}
	w := operation.Request{CSR: r.CSR, Request: pki.Request{Profile: p, Node: m.Name}}
	if p.Names == pki.NodeNames {
		w.Names = names
	}
	if err := pki.CheckCSR(r.CSR, w.Request); err != nil {
		return operation.Request{}, plugin.Errorf(NotPermitted, "%v", err)
	}
	return w, nil
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
	n.Begun.Delete(m.Operation + m.Key)
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
func (n Node) ReleaseJoin(ctx context.Context, who Caller, ref peer.Ref) error {
	store, all, err := n.records(ctx)
	if err != nil {
		return err
	}
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
	n.Begun.Delete(m.Operation + m.Key)
	if m.TakeBack != nil && len(m.TakeBack.Operations) > 0 {
		if err := n.ServeChanges(ctx, "take back the join of "+m.Name, m.Operation+"/back", *m.TakeBack); err != nil {
			return err
		}
	}
	if m.Certified { // else there is no object of it, and will be none
		if err := n.Expel(ctx, store, m.Name); err != nil {
			return err
		}
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
	return store.Delete(ctx, m)
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
