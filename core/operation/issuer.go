package operation

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// The files of the bundles that verify an authority's certificates. Clients
// of the kubernetes authority have a file of their own: with a company's
// authority they are trusted by the cluster's intermediate only.
const (
	kubernetesTrust = "certs/ca.crt"
	clientTrust     = "certs/client-ca.crt"
	frontProxyTrust = "certs/front-proxy-ca.crt"
	datastoreTrust  = "certs/datastore-ca.crt"
)

// Issuer makes this node's keys and has them certified by the active certs
// plugins. It implements change.Issuer.
type Issuer struct {
	Root    *node.Root
	Record  *node.Record
	KeyType pki.KeyType
	Plugins Plugins
	Now     func() time.Time
	// Signer names the plugin that signs for an authority, without asking it.
	Signer func(authority string) string
	// Floor is when mk was built: the clock cannot be earlier.
	Floor time.Time
	// Remote has a control-plane node sign: a worker has no authority. Nil
	// where the active certs plugins are asked.
	Remote func(ctx context.Context, s peer.Sign) (*peer.Signed, error)

	mu    sync.Mutex
	trust map[string]certs.Authority
	// Which certificates on disk were last read, and when the newest of them
	// begins.
	seen   [2]stamp
	newest time.Time
}

var _ change.Issuer = (*Issuer)(nil)

// wish is one certificate on its way.
type wish struct {
	request pki.Request
	key     crypto.Signer
	keyPEM  []byte
	csr     []byte
	parsed  *x509.CertificateRequest
	cert    []byte
	keyType pki.KeyType // of a foreign key; others are of the issuer's
	granted *pki.Names  // where they are fewer than the CSR asks for
}

// Issue makes a batch, one Sign for each authority. On an error nothing was
// written anywhere; authorities may have signed what nobody uses.
func (i *Issuer) Issue(ctx context.Context, operationID string, wanted []changeset.IssueCertificate) ([]change.File, error) {
	now := i.Now()
	if err := i.checkClock(now); err != nil {
		return nil, err
	}
	wishes := make([]*wish, len(wanted))
	for n, w := range wanted {
		request, err := i.request(w)
		if err != nil {
			return nil, err
		}
		wishes[n] = &wish{request: request}
	}
	if err := i.makeKeys(ctx, wishes); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, authority := range pki.Authorities() {
		batch := slices.DeleteFunc(slices.Clone(wishes), func(w *wish) bool { return w.request.Profile.Authority != authority })
		if len(batch) > 0 {
			group.Go(func() error { return i.sign(ctx, operationID, authority, batch, now) })
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return i.files(ctx, wishes)
}

func (i *Issuer) request(w changeset.IssueCertificate) (pki.Request, error) {
	p, err := pki.Find(w.Profile)
	if err != nil {
		return pki.Request{}, err
	}
	if w.Peer != "" {
		return pki.Request{}, fmt.Errorf("certificate %s: asking the peer %s needs a cluster", w.Profile, w.Peer)
	}
	names, err := i.names(p)
	if err != nil {
		return pki.Request{}, err
	}
	extra, err := NormalNames(w.DNSNames, w.IPAddresses)
	if err != nil {
		return pki.Request{}, err
	}
	if more := extra.Without(names); !more.Empty() {
		return pki.Request{}, fmt.Errorf("certificate %s: %s is not a name of this node", w.Profile, strings.Join(more.Strings(), ", "))
	}
	return pki.Request{Profile: p, Node: i.Record.Name, Names: names, Life: w.Life}, nil
}

// NormalNames are the names of a certificate, in their normal form.
func NormalNames(dns, ips []string) (pki.Names, error) {
	n := pki.Names{DNS: dns}
	for _, s := range ips {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return n, fmt.Errorf("%q is not an IP address", s)
		}
		n.IPs = append(n.IPs, a)
	}
	return n.Normal(), nil
}

// names are those that the policy gives a profile on this node.
func (i *Issuer) names(p pki.Profile) (pki.Names, error) {
	switch p.Names {
	case pki.NoNames:
		return pki.Names{}, nil
	case pki.NodeNames:
		return NormalNames([]string{i.Record.Name}, append([]string{"127.0.0.1", i.Record.Address}, i.Record.Addresses...))
	}
	return i.serverNames()
}

const confTemplate = "certs/csr.conf.template"

// serverNames are those of csr.conf.template, where people add theirs, with
// the addresses of this node.
func (i *Issuer) serverNames() (pki.Names, error) {
	service, err := i.serviceIPs()
	if err != nil {
		return pki.Names{}, err
	}
	rendered, err := i.renderConf(service)
	if err != nil {
		return pki.Names{}, err
	}
	conf, err := pki.ParseConf(i.Root.Path(confTemplate), rendered)
	if err != nil {
		return pki.Names{}, err
	}
	names, err := conf.Names()
	if err != nil {
		return pki.Names{}, err
	}
	base := pki.BaseNames(service...)
	base.DNS = append(base.DNS, i.Record.Name)
	if h := nodeName(hostname()); pki.CheckNodeName(h) == nil {
		base.DNS = append(base.DNS, h) // people reach the machine by it
	}
	return names.Union(base), nil
}

func (i *Issuer) renderConf(service []netip.Addr) ([]byte, error) {
	template, err := i.Root.ReadFile(confTemplate)
	if errors.Is(err, fs.ErrNotExist) {
		template, err = pki.DefaultTemplate(service...), nil
	}
	if err != nil {
		return nil, err
	}
	own, err := NormalNames(nil, append([]string{i.Record.Address}, i.Record.Addresses...))
	if err != nil {
		return nil, err
	}
	out, err := pki.Render(i.Root.Path(confTemplate), template, own.IPs)
	if err != nil {
		return nil, &node.FileError{Err: err}
	}
	return out, nil
}

func (i *Issuer) serviceIPs() ([]netip.Addr, error) {
	var out []netip.Addr
	for s := range strings.SplitSeq(i.Record.Network.ServiceCIDR, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("service CIDR %q: %w", s, err)
		}
		out = append(out, pki.FirstServiceIP(p))
	}
	return out, nil
}

// makeKeys makes all keys at once: RSA keys take a second of a core each.
func (i *Issuer) makeKeys(ctx context.Context, wishes []*wish) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range wishes {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var err error
			if w.key, w.keyPEM, err = pki.NewKey(i.KeyType); err != nil {
				return err
			}
			if w.csr, err = pki.NewCSR(w.key, w.request); err != nil {
				return err
			}
			w.parsed, err = pki.CheckCSR(w.csr, w.request)
			return err
		})
	}
	return group.Wait()
}

// sign asks one authority for a batch and checks every certificate.
func (i *Issuer) sign(ctx context.Context, operationID string, authority pki.Authority, batch []*wish, now time.Time) error {
	if i.Remote != nil {
		return i.signRemotely(ctx, authority, batch, now)
	}
	requests := make([]certs.CertificateRequest, len(batch))
	for n, w := range batch {
		requests[n] = certificateRequest(w, cmp.Or(w.keyType, i.KeyType))
	}
	s, err := i.submit(ctx, operationID, authority, batch, requests, now)
	if err != nil {
		return err
	}
	var errs []error
	for n, r := range s.results {
		errs = append(errs, accept(batch[n], r, s.authority, s.who, now))
	}
	return errors.Join(errs...)
}

// signed is what an authority answered to a batch, before it is checked.
type signed struct {
	results   []certs.SignResult // as many as were asked
	authority certs.Authority
	who       plugin.Identity
}

// submit puts a batch to the active plugin of an authority. The same CSRs
// under the same operation are the same question.
func (i *Issuer) submit(ctx context.Context, operationID string, authority pki.Authority, batch []*wish,
	requests []certs.CertificateRequest, now time.Time) (signed, error) {
	p, who, err := i.Plugins.Certs(ctx, string(authority))
	if err != nil {
		return signed{}, err
	}
	a, err := i.Authority(ctx, string(authority))
	if err != nil {
		return signed{}, err
	}
	call := plugin.Call{OperationID: operationID + "/sign/" + string(authority) + "/" + fingerprints(batch)}
	results, err := p.Sign(ctx, certs.SignRequest{Call: call, Requests: requests, Now: now})
	if err != nil {
		return signed{}, fmt.Errorf("%s cannot sign: %w", who, err)
	}
	if len(results) != len(batch) {
		return signed{}, fmt.Errorf("%s answered %d certificates to %d requests", who, len(results), len(batch))
	}
	return signed{results, a, who}, nil
}

func accept(w *wish, r certs.SignResult, a certs.Authority, who plugin.Identity, now time.Time) error {
	name := w.request.Profile.Name
	switch {
	case r.ID != name:
		return fmt.Errorf("%s answered a certificate for %q where %s was asked", who, r.ID, name)
	case r.Refused != nil:
		return &plugin.Error{Reason: r.Refused.Reason, Message: fmt.Sprintf("%s refuses to sign %s: %s", who, name, r.Refused.Message)}
	case r.Pending != nil:
		return fmt.Errorf("%s has not decided on %s yet: %s", who, name, r.Pending.WaitingFor)
	case r.Granted == nil:
		return fmt.Errorf("%s answered nothing for %s", who, name)
	}
	cert, err := pki.WithChain(r.Granted.Certificate, a.Chain)
	if err == nil {
		err = pki.CheckCertificate(cert, pki.Expect{CSR: w.parsed, Request: w.request, Granted: w.granted, Now: now, Trust: trusted(a)})
	}
	if err != nil {
		return fmt.Errorf("%s signed a certificate that cannot be used: %w", who, err)
	}
	w.cert = cert
	return nil
}

// trusted is what verifies an authority's certificates on a node. etcd has one
// bundle for its peers, which are servers and clients: whom it should not take
// as a client must not be in there.
func trusted(a certs.Authority) pki.Trust {
	t := pki.Trust{Servers: a.ServerBundle, Clients: a.ClientBundle}
	if a.Name == certs.Datastore {
		t.Servers = a.ClientBundle
	}
	return t
}

func certificateRequest(w *wish, kt pki.KeyType) certs.CertificateRequest {
	p := w.request.Profile
	r := certs.CertificateRequest{
		ID: p.Name, CSR: w.csr, Authority: string(p.Authority), Profile: p.Name, Life: w.request.Life,
		CommonName: p.Subject(w.request.Node), Organizations: p.GroupsOf(w.request.Node), DNSNames: w.request.Names.DNS,
		KeyUsages: []string{certs.DigitalSignature},
	}
	if r.Life == 0 {
		r.Life = p.MaxLife
	}
	for _, a := range w.request.Names.IPs {
		r.IPAddresses = append(r.IPAddresses, a.String())
	}
	if p.Server {
		r.ExtendedKeyUsages = append(r.ExtendedKeyUsages, certs.ServerAuth)
		if kt == pki.RSA2048 {
			r.KeyUsages = append(r.KeyUsages, certs.KeyEncipherment)
		}
	}
	if p.Client {
		r.ExtendedKeyUsages = append(r.ExtendedKeyUsages, certs.ClientAuth)
	}
	return r
}

// fingerprints make a call's id: new keys are a new question.
func fingerprints(batch []*wish) string {
	sum := make([]byte, 0, 64*len(batch))
	for _, w := range batch {
		sum = append(sum, w.csr...)
	}
	return strings.TrimPrefix(changeset.DigestOf(sum), "sha256:")
}

// Authority is the newest generation of an authority, asked once.
func (i *Issuer) Authority(ctx context.Context, name string) (certs.Authority, error) {
	i.mu.Lock()
	a, ok := i.trust[name]
	i.mu.Unlock()
	if ok {
		return a, nil
	}
	if i.Record != nil && i.Record.Role == node.Worker {
		return i.authorityOnDisk(name)
	}
	p, who, err := i.Plugins.Certs(ctx, name)
	if err != nil {
		return a, err
	}
	list, err := p.Authorities(ctx, []string{name})
	if err != nil {
		return a, fmt.Errorf("%s: %w", who, err)
	}
	for _, a := range list {
		if a.Name == name {
			i.Remember(a)
			return a, nil
		}
	}
	return a, fmt.Errorf("%s has no authority %s", who, name)
}

// Remember makes known what an authority is, so that no plugin is asked.
func (i *Issuer) Remember(a certs.Authority) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.trust == nil {
		i.trust = map[string]certs.Authority{}
	}
	i.trust[a.Name] = a
}

// files are the pairs, and the kubeconfigs that hold them.
func (i *Issuer) files(ctx context.Context, wishes []*wish) ([]change.File, error) {
	var out []change.File
	for _, w := range wishes {
		p := w.request.Profile
		if p.CertFile() == "" {
			return nil, fmt.Errorf("certificate %s has no file on a node", p.Name)
		}
		out = append(out,
			change.File{Path: p.KeyFile(), Content: w.keyPEM, Secret: true},
			change.File{Path: p.CertFile(), Content: w.cert, Mode: 0o644})
		config, err := i.kubeconfig(ctx, w)
		if err != nil {
			return nil, err
		}
		if config != nil {
			out = append(out, *config)
		}
	}
	return out, nil
}

// kubeconfig is the kubeconfig of a profile that has one. People's own holds
// its certificate, so that it can be carried away; the programs' name files,
// which are read again when they change.
func (i *Issuer) kubeconfig(ctx context.Context, w *wish) (*change.File, error) {
	name, ok := configName(w.request.Profile.Name, i.Record.Auth)
	if !ok {
		return nil, nil
	}
	a, err := i.Authority(ctx, certs.Kubernetes)
	if err != nil {
		return nil, err
	}
	p := w.request.Profile
	o := kubeconfig.Options{
		Server: kubeconfig.ServerURL("127.0.0.1", uint16(i.Record.Network.APIPort)), //nolint:gosec // checked by the record
		CA:     a.ServerBundle, User: p.Subject(w.request.Node),
		CertFile: i.Root.Path(p.CertFile()), KeyFile: i.Root.Path(p.KeyFile()),
	}
	if p.Name == pki.Admin {
		o.CertFile, o.KeyFile, o.Cert, o.Key = "", "", w.cert, w.keyPEM
	}
	data, err := kubeconfig.New(o)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return &change.File{Path: "credentials/" + name, Content: data, Secret: true}, nil
}

// configName is the kubeconfig that holds a profile's certificate. With
// tokens the five hold those instead.
func configName(profile string, auth node.Auth) (string, bool) {
	switch profile {
	case pki.Flanneld:
		return "flanneld.config", true
	case pki.NodeAgent:
		return "agent.config", true
	}
	if auth == node.Token {
		return "", false
	}
	for _, f := range kubeconfig.Files() {
		if f.Profile == profile {
			return f.Name, true
		}
	}
	return "", false
}
