package membership

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

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
		asked, err := signable(began, s.Requests)
		if err != nil {
			began = nil // the record decides
		} else {
			early.Go(func() { certified, refused = n.Issuer.SignFor(within, "for/"+began.Name, asked) })
		}
	}
	m, err := n.signRecord(ctx, store, who, s)
	same := err == nil && began != nil && began.Name == m.Name && began.Address == m.Address && slices.Equal(began.Addresses, m.Addresses)
	if !same {
		cancel()
	}
	var batch []operation.Request
	if err == nil && !same {
		batch, err = signable(m, s.Requests)
	}
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
	if !same {
		certified, refused = n.Issuer.SignFor(ctx, "for/"+m.Name, batch)
	}
	if refused != nil {
		return nil, refused
	}
	return n.answer(ctx, store, m, s.Requests, certified, nil)
}

// joinID is what a join is known by.
type joinID struct{ operation, key string }

// remember keeps the record of a join that began here, and forgets those whose
// lease has ended.
func (n Node) remember(m cluster.Member) {
	n.Begun.Range(func(id, began any) bool {
		if !began.(*cluster.Member).Live(n.Now()) {
			n.Begun.Delete(id)
		}
		return true
	})
	m.Forward = false
	n.Begun.Store(joinID{m.Operation, m.Key}, &m)
}

// began is the record of a caller's join as it was when it began on this node,
// or nil: it may have ended since.
func (n Node) began(who Caller, operation string) *cluster.Member {
	m, ok := n.Begun.Load(joinID{operation, who.Key})
	if !ok || !m.(*cluster.Member).Live(n.Now()) {
		return nil
	}
	return m.(*cluster.Member)
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
	if err := pki.CheckCSR(r.CSR, w.Request); err != nil {
		return operation.Request{}, plugin.Errorf(NotPermitted, "%v", err)
	}
	return w, nil
}
