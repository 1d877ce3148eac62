package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/sdk/changeset"
)

// RenewOptions say which certificates to renew; without profiles all are.
type RenewOptions struct {
	Profiles []string `json:"profiles,omitempty"`
	// Due renews only those that should be: two thirds of their life are over,
	// or they are not what this node needs.
	Due bool `json:"due,omitempty"`
}

// Renew renews this node's certificates. Programs read the new ones
// themselves, within five minutes; nothing is restarted.
func (n *Node) Renew(ctx context.Context, o RenewOptions) ([]string, error) {
	profiles, err := n.toRenew(o)
	if err != nil || len(profiles) == 0 {
		return nil, err
	}
	// A fault in a file of a person's is said before anything is recorded.
	if _, err := n.renewal(profiles); err != nil {
		return nil, err
	}
	r, err := n.Journal.Begin(ctx, "refresh-certs", o)
	if err != nil {
		return nil, err
	}
	err = r.Step(ctx, "renew the certificates", func(ctx context.Context) error {
		cs, err := n.renewal(profiles)
		if err != nil {
			return err
		}
		return r.Apply(ctx, cs)
	})
	return profiles, r.End(ctx, err)
}

// Renewal is what Renew would apply.
func (n *Node) Renewal(o RenewOptions) (changeset.ChangeSet, error) {
	profiles, err := n.toRenew(o)
	if err != nil {
		return changeset.ChangeSet{}, err
	}
	return n.renewal(profiles)
}

func (n *Node) renewal(profiles []string) (changeset.ChangeSet, error) {
	var cs changeset.ChangeSet
	for _, p := range profiles {
		if p == pki.Server {
			service, err := n.Issuer.serviceIPs()
			if err != nil {
				return cs, err
			}
			rendered, err := n.Issuer.renderConf(service)
			if err != nil {
				return cs, err
			}
			cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.WriteFile{Path: "certs/csr.conf.rendered", Content: rendered}})
		}
	}
	for _, p := range profiles {
		cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.IssueCertificate{Profile: p}})
	}
	return cs, nil
}

func (n *Node) toRenew(o RenewOptions) ([]string, error) {
	all := n.Profiles()
	for _, p := range o.Profiles {
		if !slices.Contains(all, p) {
			return nil, fmt.Errorf("this node has no certificate %q: %v", p, all)
		}
	}
	wanted := o.Profiles
	if len(wanted) == 0 {
		wanted = all
	}
	if !o.Due {
		return wanted, nil
	}
	var due []string
	for _, p := range wanted {
		reasons, err := n.Judge(p)
		if err != nil {
			return nil, err
		}
		if len(reasons) > 0 {
			due = append(due, p)
		}
	}
	return due, nil
}

// processLife is how long kubelite runs at most. Its API server makes a
// certificate for calls to itself when it starts, keeps it in memory, and is
// not ready any more when that ends: after three years and a day.
const processLife = 1000 * 24 * time.Hour

// RestartAged restarts services before a certificate ends that they hold in
// memory only. Pods go on meanwhile.
func (n *Node) RestartAged(ctx context.Context) ([]string, error) {
	list, err := n.services.Status(ctx)
	if errors.Is(err, service.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.Name == defaults.Kubelite && s.State == service.Running && !s.Since.IsZero() && n.Now().Sub(s.Since) > processLife {
			return []string{s.Name}, n.Restart(ctx, s.Name)
		}
	}
	return nil, nil
}

// Judge says why a certificate of this node should be replaced. It reads
// files and asks nobody: trust is what is on disk.
func (n *Node) Judge(profile string) ([]pki.Reason, error) {
	p, err := pki.Find(profile)
	if err != nil {
		return nil, err
	}
	cert, err := n.Root.ReadFile(p.CertFile())
	if err != nil {
		return absent(err)
	}
	return n.judge(p, cert, n.trustOnDisk)
}

// absent judges a certificate that could not be read.
func absent(err error) ([]pki.Reason, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return []pki.Reason{{Code: pki.Unreadable, Text: "it is not there"}}, nil
	}
	return nil, err
}

func (n *Node) judge(p pki.Profile, cert []byte, trust trusting) ([]pki.Reason, error) {
	names, err := n.Issuer.names(p)
	if err != nil {
		return nil, err
	}
	want := pki.Want{Profile: p, Node: n.Record.Name, Names: names}
	keyPEM, err := n.Root.ReadFile(p.KeyFile())
	if err != nil {
		return []pki.Reason{{Code: pki.KeyMismatch, Text: "its key cannot be read: " + err.Error()}}, nil
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return []pki.Reason{{Code: pki.KeyMismatch, Text: err.Error()}}, nil
	}
	want.Key = key.Public()
	if want.Trust, err = trust(p.Authority); err != nil {
		return nil, err
	}
	return pki.Judge(cert, want, n.Now()), nil
}

// trusting is what verifies the certificates of an authority.
type trusting func(pki.Authority) (pki.Trust, error)

// trustOnce is trustOnDisk that reads each file once, for who judges many
// certificates in a row.
func (n *Node) trustOnce() trusting {
	read := map[pki.Authority]pki.Trust{}
	return func(a pki.Authority) (pki.Trust, error) {
		t, ok := read[a]
		if ok {
			return t, nil
		}
		t, err := n.trustOnDisk(a)
		if err == nil {
			read[a] = t
		}
		return t, err
	}
}

func (n *Node) trustOnDisk(a pki.Authority) (pki.Trust, error) {
	name := map[pki.Authority]string{pki.Kubernetes: kubernetesTrust, pki.FrontProxy: frontProxyTrust, pki.Datastore: datastoreTrust}[a]
	servers, err := n.Root.ReadFile(name)
	if err != nil {
		return pki.Trust{}, err
	}
	t := pki.Trust{Servers: servers, Clients: servers}
	if a == pki.Kubernetes {
		if t.Clients, err = n.Root.ReadFile(clientTrust); err != nil {
			return pki.Trust{}, err
		}
	}
	return t, nil
}

// NextRenewal is when the first certificate of this node is due; the zero time
// where one is due now.
func (n *Node) NextRenewal() (time.Time, error) {
	var next time.Time
	for i, name := range n.Profiles() {
		p, err := pki.Find(name)
		if err != nil {
			return next, err
		}
		data, err := n.Root.ReadFile(p.CertFile())
		if err != nil {
			return time.Time{}, err
		}
		cert, err := pki.ParseCertificate(data)
		if err != nil {
			return time.Time{}, err
		}
		if at := pki.RenewAt(cert); i == 0 || at.Before(next) {
			next = at
		}
	}
	return next, nil
}
