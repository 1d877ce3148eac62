package operation

import (
	"mk8s.io/mk/core/pki"
)

// Branch is a certificate of an authority that this node trusts, and those of
// this node that it signed.
type Branch struct {
	Authority string        `json:"authority"` // empty: none that this node trusts
	File      string        `json:"file,omitempty"`
	Info      *pki.Info     `json:"certificate,omitempty"`
	Signed    []Certificate `json:"signed,omitempty"`
}

// CertificateTree says who signed what of this node's certificates, by the
// files on disk. What nobody of them signed comes last.
func (n *Node) CertificateTree() ([]Branch, error) {
	list, err := n.Certificates()
	if err != nil {
		return nil, err
	}
	var out []Branch
	at := map[string]int{} // key of an authority: its branch
	for _, a := range []struct{ name, file string }{
		{"kubernetes", kubernetesTrust}, {"kubernetes, for clients", clientTrust}, {"front-proxy", frontProxyTrust}, {"datastore", datastoreTrust},
	} {
		data, err := n.Root.ReadFile(a.file)
		if err != nil {
			return nil, err
		}
		infos, err := pki.InspectBundle(data)
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			if _, known := at[info.KeyID]; known {
				continue
			}
			at[info.KeyID] = len(out)
			out = append(out, Branch{Authority: a.name, File: n.Root.Path(a.file), Info: &info})
		}
	}
	var strays []Certificate
	for _, c := range list {
		if i, ok := at[c.IssuerKeyID]; ok && c.IssuerKeyID != "" {
			out[i].Signed = append(out[i].Signed, c)
		} else {
			strays = append(strays, c)
		}
	}
	if len(strays) > 0 {
		out = append(out, Branch{Signed: strays})
	}
	return out, nil
}
