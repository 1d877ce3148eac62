package membership

import (
	"context"
	"errors"
	"slices"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// recent is how long a joiner's record is gone by without being read again.
const recent = 5 * time.Second

// letIn is a joiner that was let in or certified here: its record, which is not
// changed, and when it was so.
type letIn struct {
	*cluster.Member
	at time.Time
}

// joinID is what a join is known by.
type joinID struct{ operation, key string }

// SignFor certifies keys of the caller's own node, for the names that its
// record has and the profiles that its role may hold. The record of a joiner
// that was let in here is not read again for a moment: if its join was taken
// back meanwhile, on another node, the API servers refuse its programs all the
// same. The key of its agent is noted in that very record, or not at all.
func (n Node) SignFor(ctx context.Context, who Caller, s peer.Sign) (*peer.Signed, error) {
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	if m, batch := n.letIn(who, s); m != nil {
		out, err := n.certify(ctx, store, m, s.Requests, batch)
		if !errors.Is(err, cluster.ErrChanged) {
			return out, err
		}
		n.forget(m)
	}
	at := n.Now().Round(0)
	m, err := n.signRecord(ctx, store, who, s)
	if err != nil {
		return nil, err
	}
	batch, err := signable(m, s.Requests)
	if err != nil {
		return nil, err
	}
	out, err := n.certify(ctx, store, m, s.Requests, batch)
	if err == nil {
		n.remember(m, at)
	}
	return out, err
}

// certify certifies keys, and notes those of a node's agent before anybody has
// the certificate: a key that is not known is not taken.
func (n Node) certify(ctx context.Context, store cluster.Members, m *cluster.Member, requests []peer.SignEntry, batch []operation.Request) (*peer.Signed, error) {
	signed, err := n.Issuer.SignFor(ctx, "for/"+m.Name, batch)
	if err != nil {
		return nil, err
	}
	note := false
	for i, text := range signed {
		if requests[i].Profile != pki.NodeAgent {
			continue
		}
		cert, err := pki.ParseCertificate(text)
		if err != nil {
			return nil, err
		}
		noteKey(m, peer.Fingerprint(cert))
		note = true
	}
	if note {
		if err := store.Put(ctx, m); err != nil {
			return nil, err
		}
	}
	return &peer.Signed{Certificates: signed}, nil
}

// letIn is the record of a joiner that was let in a moment ago, a copy, with
// what it asks for; nil where the record has to be read.
func (n Node) letIn(who Caller, s peer.Sign) (*cluster.Member, []operation.Request) {
	v, ok := n.LetIn.Load(joinID{s.Operation, who.Key})
	if !ok || !n.still(v.(letIn)) {
		return nil, nil
	}
	m := *v.(letIn).Member
	m.Keys = slices.Clone(m.Keys)
	batch, err := signable(&m, s.Requests)
	if err != nil {
		return nil, nil // it may say something else by now
	}
	return &m, batch
}

// still reports whether a record may be gone by. at is of the wall clock, which
// a machine that was suspended has, too.
func (n Node) still(l letIn) bool {
	age := n.Now().Sub(l.at)
	return age >= 0 && age < recent && l.Live(n.Now())
}

// remember keeps a joiner's record for a moment, and forgets those whose moment
// has passed.
func (n Node) remember(m *cluster.Member, at time.Time) {
	n.LetIn.Range(func(id, v any) bool {
		if !n.still(v.(letIn)) {
			n.LetIn.Delete(id)
		}
		return true
	})
	if m.State == cluster.Joining {
		n.LetIn.Store(joinID{m.Operation, m.Key}, letIn{m, at})
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
