package operation

import (
	"fmt"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
)

// Promise says which files an operation would write, and what into them.
func (i *Issuer) Promise(a changeset.Action) ([]string, string, error) {
	if t, ok := a.(*changeset.SetTrust); ok {
		return trustFiles(t.Authority), "", nil
	}
	w, ok := a.(*changeset.IssueCertificate)
	if !ok {
		return nil, "", nil
	}
	p, err := pki.Find(w.Profile)
	if err != nil {
		return nil, "", err
	}
	life := w.Life
	if life == 0 {
		life = p.MaxLife
	}
	who := "another node"
	if w.Peer == "" {
		who = i.Signer(string(p.Authority))
	}
	paths := []string{p.CertFile(), p.KeyFile()}
	if w.Peer == "" {
		paths = append(paths, "plugins/state/"+who+"/**") // what it keeps of its answers
	}
	if name, ok := configName(p.Name, i.Record.Auth); ok {
		config := "credentials/" + name
		if _, err := i.Root.Lstat(config); err == nil && p.Name != pki.Admin {
			config += "*" // it names the files, and changes only where the authority did
		}
		paths = append(paths, config)
	}
	return paths, fmt.Sprintf("‹certificate %s, %d days, by %s›", p.Name, int(life.Hours()/24), who), nil
}

// trustFiles are where an authority's bundles stand.
func trustFiles(authority string) []string {
	return map[string][]string{
		certs.Kubernetes: {kubernetesTrust, clientTrust}, certs.FrontProxy: {frontProxyTrust}, certs.Datastore: {datastoreTrust},
	}[authority]
}

// Trust gives the files of an authority's bundles.
func (i *Issuer) Trust(a changeset.SetTrust) ([]change.File, error) {
	for _, bundle := range [][]byte{a.Bundle, a.Clients()} {
		if _, err := pki.ParseBundle(bundle); err != nil {
			return nil, err
		}
	}
	switch a.Authority {
	case certs.Kubernetes:
		return []change.File{
			{Path: kubernetesTrust, Content: a.Bundle, Mode: 0o644},
			{Path: clientTrust, Content: a.Clients(), Mode: 0o644},
		}, nil
	case certs.FrontProxy: // it has clients only
		return []change.File{{Path: frontProxyTrust, Content: a.Clients(), Mode: 0o644}}, nil
	case certs.Datastore: // its members are both
		return []change.File{{Path: datastoreTrust, Content: a.Clients(), Mode: 0o644}}, nil
	}
	return nil, fmt.Errorf("authority %q is unknown", a.Authority)
}
