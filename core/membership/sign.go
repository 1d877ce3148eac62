package membership

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// recent is how long a joiner's record is gone by without being read again.
const recent = 5 * time.Second

// letIn is a joiner that was let in: its record, and when that was so.
type letIn struct {
	*cluster.Member
	at time.Time
}

// joinID is what a join is known by.
type joinID struct{ operation, key string }

// SignFor certifies keys of the caller's own node, for the names that its
// record has and the profiles that its role may hold. The record of a joiner
// that was let in is not read again for a moment: if its join was taken back
// meanwhile, on another node, the API servers refuse its programs all the same.
func (n Node) SignFor(ctx context.Context, who Caller, s peer.Sign) (*peer.Signed, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	m, batch := n.letIn(who, s)
	if m == nil {
		at := n.Now().Round(0)
		if m, err = n.signRecord(ctx, store, who, s); err != nil {
			return nil, err
		}
		if batch, err = signable(m, s.Requests); err != nil {
			return nil, err
		}
		if err := n.letRegister(ctx, store, m); err != nil {
			return nil, err
		}
		defer n.remember(letIn{m, at})
	}
	certified, err := n.Issuer.SignFor(ctx, "for/"+m.Name, batch)
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, store, m, s.Requests, certified, nil)
}

// letIn is the record of a joiner that was let in a moment ago, with what it
// asks for; nil where the record has to be read. An agent's key is noted in it.
func (n Node) letIn(who Caller, s peer.Sign) (*cluster.Member, []operation.Request) {
	v, ok := n.LetIn.Load(joinID{s.Operation, who.Key})
	if !ok || slices.ContainsFunc(s.Requests, func(r peer.SignEntry) bool { return r.Profile == pki.NodeAgent }) || !n.still(v.(letIn)) {
		return nil, nil
	}
	batch, err := signable(v.(letIn).Member, s.Requests)
	if err != nil {
		return nil, nil // it may say something else by now
	}
	return v.(letIn).Member, batch
}

// still reports whether a record may be gone by. at is of the wall clock, which
// a machine that was suspended has, too.
func (n Node) still(l letIn) bool {
	age := n.Now().Sub(l.at)
	return age >= 0 && age < recent && l.Live(n.Now())
}

// remember keeps a joiner's record for a moment, and forgets those whose moment
// has passed.
func (n Node) remember(l letIn) {
	n.LetIn.Range(func(id, v any) bool {
		if !n.still(v.(letIn)) {
			n.LetIn.Delete(id)
		}
		return true
	})
	if l.State == cluster.Joining {
		n.LetIn.Store(joinID{l.Operation, l.Key}, l)
	}
}

// forget has a joiner's record be read again.
func (n Node) forget(m *cluster.Member) { n.LetIn.Delete(joinID{m.Operation, m.Key}) }

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

// signable holds requests of a node to the policy.
func signable(m *cluster.Member, requests []peer.SignEntry) ([]operation.Request, error) {
	if len(requests) == 0 || len(requests) > len(pki.Profiles()) {
		return nil, plugin.Errorf(plugin.BadArgument, "%d certificates cannot be asked for at once", len(requests))
	}
	names, err := operation.NormalNames([]string{m.Name}, append([]string{"127.0.0.1", m.Address}, m.Addresses...))
	if err != nil {
		return nil, err
	}
	batch := make([]operation.Request, len(requests))
	for i, r := range requests {
		if batch[i], err = allowed(m, names, r); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// allowed holds one request to the policy: profile, key and names.
func allowed(m *cluster.Member, names pki.Names, r peer.SignEntry) (operation.Request, error) {
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
	if w.Parsed, err = pki.CheckCSR(r.CSR, w.Request); err != nil {
		return operation.Request{}, plugin.Errorf(NotPermitted, "%v", err)
	}
	return w, nil
}
