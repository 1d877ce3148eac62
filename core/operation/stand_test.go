package operation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"sync"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// standIns are plugins in this process. They answer what the shipped ones do,
// and keep their state as a plugin must: so a kill hits them as well.
type standIns struct {
	n    *Node
	lock *sync.Mutex
}

var _ Plugins = standIns{}

func (s standIns) identity(kind, name string) plugin.Identity {
	return plugin.Identity{Kind: kind, Name: name, Version: "1.0.0"}
}

func (s standIns) Certs(context.Context, string) (certs.Plugin, plugin.Identity, error) {
	return standCerts{root: s.n.Root, lock: s.lock}, s.identity(plugin.KindCerts, "local"), nil
}

func (s standIns) Tokens(context.Context) (tokens.Plugin, plugin.Identity, error) {
	return nil, plugin.Identity{}, ErrNoPlugin
}

func (s standIns) Clustering(context.Context) (clustering.Plugin, plugin.Identity, error) {
	return standClustering{}, s.identity(plugin.KindClustering, "etcd"), nil
}

func (s standIns) Exporter(context.Context, string) (plugin.Exporter, error) {
	return nil, ErrNoPlugin
}

func (s standIns) Forget(context.Context, string) error { return nil }

func (s standIns) Addons(context.Context, string) (addons.Plugin, plugin.Identity, error) {
	return nil, plugin.Identity{}, ErrNoPlugin
}

// Described answers what the manifest says.
func (s standIns) Described(_ context.Context, _ *lockfile.Lock, entry lockfile.Installed) (*pluginsdir.Described, error) {
	return &pluginsdir.Described{Description: plugin.Description{
		Identity: entry.Identity, Contracts: []string{plugin.Contract(entry.Kind)}, Grants: entry.Grants,
	}}, nil
}

// standCerts signs with one key for each authority, kept in its state folder.
type standCerts struct {
	certs.Plugin

	root *node.Root
	lock *sync.Mutex
}

func (c standCerts) file(authority string) string {
	return "plugins/state/certs/local/" + authority + ".pem"
}

// Bootstrap makes an authority once.
func (c standCerts) Bootstrap(ctx context.Context, r certs.BootstrapRequest) (certs.Authority, error) {
	c.lock.Lock() // three authorities are made at once
	defer c.lock.Unlock()
	if _, err := c.root.Lstat(c.file(r.Authority)); errors.Is(err, fs.ErrNotExist) {
		if err := c.make(r.Authority, r.Now); err != nil {
			return certs.Authority{}, err
		}
	}
	list, err := c.Authorities(ctx, []string{r.Authority})
	if err != nil {
		return certs.Authority{}, err
	}
	return list[0], nil
}

func (c standCerts) make(authority string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: authority}, NotBefore: now.Add(-time.Minute),
		NotAfter: now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := c.root.MkdirAll("plugins/state/certs/local", node.Perm{Mode: 0o700, UID: -1, GID: -1}); err != nil {
		return err
	}
	if err := c.root.Sweep("plugins/state/certs/local"); err != nil {
		return err
	}
	return c.root.WriteFile(c.file(authority), data, node.Perm{Mode: 0o600, UID: -1, GID: -1})
}

func (c standCerts) load(authority string) (*x509.Certificate, *ecdsa.PrivateKey, []byte, error) {
	data, err := c.root.ReadFile(c.file(authority))
	if err != nil {
		return nil, nil, nil, err
	}
	first, rest := pem.Decode(data)
	second, _ := pem.Decode(rest)
	ca, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return nil, nil, nil, err
	}
	return ca, key.(*ecdsa.PrivateKey), pem.EncodeToMemory(first), nil
}

// Authorities says what is trusted.
func (c standCerts) Authorities(_ context.Context, names []string) ([]certs.Authority, error) {
	var out []certs.Authority
	for _, name := range names {
		_, _, bundle, err := c.load(name)
		if err != nil {
			return nil, err
		}
		out = append(out, certs.Authority{Name: name, Generation: 1, ServerBundle: bundle, ClientBundle: bundle})
	}
	return out, nil
}

// Sign signs what was asked.
func (c standCerts) Sign(_ context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	var out []certs.SignResult
	for _, q := range r.Requests {
		cert, err := c.sign(q, r.Now)
		if err != nil {
			return nil, err
		}
		out = append(out, certs.SignResult{ID: q.ID, Granted: &certs.Granted{Certificate: cert}})
	}
	return out, nil
}

func (c standCerts) sign(q certs.CertificateRequest, now time.Time) ([]byte, error) {
	ca, key, _, err := c.load(q.Authority)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(q.CSR)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: q.CommonName, Organization: q.Organizations},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(-time.Minute).Add(min(q.Life, 365*24*time.Hour)), DNSNames: q.DNSNames,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: id[:20],
	}
	for _, s := range q.IPAddresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		t.IPAddresses = append(t.IPAddresses, a.AsSlice())
	}
	for _, u := range q.ExtendedKeyUsages {
		t.ExtKeyUsage = append(t.ExtKeyUsage, map[string]x509.ExtKeyUsage{
			certs.ServerAuth: x509.ExtKeyUsageServerAuth, certs.ClientAuth: x509.ExtKeyUsageClientAuth}[u])
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, csr.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// standClustering sets up a datastore of one member.
type standClustering struct{ clustering.Plugin }

// clusteringGrants are in its manifest.
const clusteringGrants = `grants:
  arguments: [etcd/*]
  certificates: [datastore, datastore-client]
  filesWrite: [var/kubernetes/backend, var/kubernetes/backend/**]
`

// Init answers a ChangeSet of every kind of operation that a first node needs.
func (standClustering) Init(_ context.Context, r clustering.InitRequest) (plugin.Answer, error) {
	const backend = "var/kubernetes/backend"
	b := changeset.Build()
	b.MakeFolder(backend + "/etcd").Mode(0o700)
	b.WriteFile(backend+"/init.yaml", []byte("Address: "+r.Node.Address+"\n")).Mode(0o640)
	b.IssueCertificate("datastore")
	b.IssueCertificate("datastore-client")
	b.SetArgument("etcd", "name", r.Node.Name)
	b.SetArgument("etcd", "data-dir", backend+"/etcd")
	return plugin.Answer{Changes: b.ChangeSet()}, nil
}

// standServices remembers in a file of its own which services run, as a
// service manager does that outlives a killed mk.
type standServices struct {
	mu   sync.Mutex
	defs map[string]service.Definition
	up   map[string]bool
	fail error
}

var _ service.Controller = (*standServices)(nil)

func (s *standServices) Apply(_ context.Context, defs []service.Definition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range defs {
		s.defs[d.Name] = d
	}
	return nil
}

func (s *standServices) Start(_ context.Context, names ...string) error { return s.set(true, names) }
func (s *standServices) Stop(_ context.Context, names ...string) error  { return s.set(false, names) }

func (s *standServices) Restart(_ context.Context, names ...string) error { return s.set(true, names) }

func (s *standServices) set(up bool, names []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if _, ok := s.defs[name]; !ok {
			return fmt.Errorf("%s: %w", name, service.ErrUnknown)
		}
		s.up[name] = up
	}
	return s.fail
}

func (s *standServices) Status(context.Context) ([]service.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []service.Status
	for name := range s.defs {
		state := service.Stopped
		if s.up[name] {
			state = service.Running
		}
		out = append(out, service.Status{Name: name, State: state})
	}
	return out, nil
}
