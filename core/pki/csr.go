package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// Request says which certificate is wanted, and, when a request of somebody else is checked, what it may have at most.
type Request struct {
	Profile Profile
	Node    string        // the node's name; needed where the profile is PerNode
	Names   Names         // from the node's record or csr.conf; must be empty where the profile has NoNames
	Life    time.Duration // 0: the profile's longest
}

// life is what is asked for.
func (r Request) life() time.Duration {
	if r.Life == 0 {
		return r.Profile.MaxLife
	}
	return r.Life
}

// Check reports everything for which this request could not be granted, whoever asks.
func (r Request) Check() error {
	var f faults
	p := r.Profile
	if p.Name == "" {
		return fmt.Errorf("certificate request names no profile")
	}
	if p.PerNode() {
		f.add(CheckNodeName(r.Node))
	}
	if p.Names == NoNames && !r.Names.Empty() {
		f.addf("a %s certificate carries no names, asked for %s", p.Name, quoteAll(r.Names.Strings()))
	}
	if p.Names != NoNames && r.Names.Empty() {
		f.addf("a %s certificate needs at least one name", p.Name)
	}
	f.add(r.Names.check())
	if r.Life < 0 || r.Life > p.MaxLife {
		f.addf("a life of %s is not allowed: %s at most", r.Life, p.MaxLife)
	}
	return f.wrap("profile %s", p.Name)
}

// Identifiers of extensions, RFC 5280 section 4.2.1.
func oidExtension(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, n} }

const (
	extSubjectKeyID     = 14
	extKeyUsage         = 15
	extSubjectAltName   = 17
	extBasicConstraints = 19
	extExtendedKeyUsage = 37
)

// NewCSR makes the PEM of a request, signed with the key. It states the usages too, for authorities that copy them.
func NewCSR(key crypto.Signer, r Request) ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.Profile.freeSubject() {
		return nil, fmt.Errorf("profile %s: its holder makes the request, not mk", r.Profile.Name)
	}
	names := r.Names.Normal()
	ext, err := usageExtensions(r.Profile, KeyTypeOf(key.Public()))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: r.Profile.Subject(r.Node), Organization: r.Profile.GroupsOf(r.Node)},
		DNSNames:        names.DNS,
		IPAddresses:     netIPs(names.IPs),
		ExtraExtensions: ext,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request %s: %w", r.Profile.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func usageExtensions(p Profile, kt KeyType) ([]pkix.Extension, error) {
	// In a BIT STRING the first named bit is the highest; x509.KeyUsage counts from the lowest.
	b := bits.Reverse8(uint8(p.KeyUsage(kt)))
	ku, err := asn1.Marshal(asn1.BitString{Bytes: []byte{b}, BitLength: 8 - bits.TrailingZeros8(b)})
	if err != nil {
		return nil, fmt.Errorf("encode key usage: %w", err)
	}
	var oids []asn1.ObjectIdentifier
	for _, u := range p.ExtKeyUsage() {
		oids = append(oids, ekuOID(u))
	}
	eku, err := asn1.Marshal(oids)
	if err != nil {
		return nil, fmt.Errorf("encode extended key usage: %w", err)
	}
	return []pkix.Extension{
		{Id: oidExtension(extKeyUsage), Critical: true, Value: ku},
		{Id: oidExtension(extExtendedKeyUsage), Value: eku},
	}, nil
}

func ekuOID(u x509.ExtKeyUsage) asn1.ObjectIdentifier {
	if u == x509.ExtKeyUsageServerAuth {
		return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	}
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
}

// CheckCSR tells whether a request may be given to an authority: r's profile, node and names are the most it may ask for.
// It reports every fault, and answers the request.
func CheckCSR(csrPEM []byte, r Request) (*x509.CertificateRequest, error) {
	csr, err := ParseCSR(csrPEM)
	if err != nil {
		return nil, err
	}
	p := r.Profile
	var f faults
	if p.PerNode() {
		f.add(CheckNodeName(r.Node))
	}
	f.add(CheckKey(csr.PublicKey))
	f.add(subjectFaults(csr.Subject, inRequest(p, csr.Subject.Organization, r.Node), r.Node).wrap("subject"))
	asked := NamesOf(csr.DNSNames, csr.IPAddresses)
	f.add(asked.check())
	if p.Names == NoNames {
		if !asked.Empty() {
			f.addf("names: a %s certificate carries none, asked for %s", p.Name, quoteAll(asked.Strings()))
		}
	} else {
		if asked.Empty() {
			f.addf("names: it asks for none")
		}
		if extra := asked.Without(r.Names); !extra.Empty() {
			f.addf("names: %s are not in the node's record", quoteAll(extra.Strings()))
		}
	}
	f.add(extensionFaults(csr, p).wrap("extensions"))
	return csr, f.wrap("certificate request %s refused", p.Name)
}

// inRequest is a profile without the groups that name the node, where a request has none: those of MicroK8s do not know them.
// The certificate has them all the same.
func inRequest(p Profile, groups []string, node string) Profile {
	p.Groups = slices.DeleteFunc(slices.Clone(p.Groups), func(g string) bool { return perNode(g) && !slices.Contains(groups, named(g, node)) })
	return p
}

// subjectFaults compares a subject with what the profile fixes. Nothing else may stand in it: Kubernetes reads more
// attributes than the common name and the organizations, a user's UID for one.
func subjectFaults(got pkix.Name, p Profile, node string) faults {
	var f faults
	var cn []string
	var groups []string
	for _, a := range got.Names {
		value, ok := a.Value.(string)
		switch {
		case !ok:
			f.addf("attribute %s is no text", a.Type)
		case a.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}):
			cn = append(cn, value)
		case a.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 10}):
			groups = append(groups, value)
		default:
			f.addf("attribute %s is not allowed", a.Type)
		}
	}
	if len(cn) != 1 {
		f.addf("%d common names instead of one", len(cn))
		return f
	}
	if p.freeSubject() {
		return append(f, freeSubjectFaults(cn[0], groups)...)
	}
	if want := p.Subject(node); cn[0] != want {
		f.addf("common name %.80q instead of %q", cn[0], want)
	}
	slices.Sort(groups)
	if want := slices.Sorted(slices.Values(p.GroupsOf(node))); !slices.Equal(groups, want) {
		f.addf("organizations %.200q instead of %q", groups, want)
	}
	return f
}

// freeSubjectFaults keeps a person's request from becoming the cluster's administrator or a node: who approves requests
// would otherwise hand out more than they themselves may do.
func freeSubjectFaults(cn string, groups []string) faults {
	var f faults
	if len(cn) == 0 || len(cn) > maxCommonName {
		f.addf("common name of %d characters: 1 to %d", len(cn), maxCommonName)
	}
	for _, prefix := range []string{"system:", "mk:"} {
		if strings.HasPrefix(cn, prefix) {
			f.addf("common name %.80q: names that begin with %q are kept for the cluster's own parts", cn, prefix)
		}
		for _, g := range groups {
			if strings.HasPrefix(g, prefix) {
				f.addf("organization %.80q: groups that begin with %q are kept for the cluster's own parts", g, prefix)
			}
		}
	}
	for _, g := range groups {
		if len(g) == 0 || len(g) > 64 {
			f.addf("organization of %d characters: 1 to 64", len(g))
		}
	}
	return f
}

// extensionFaults lets only extensions through that mk understands, critical or not: an authority may copy what it finds.
func extensionFaults(csr *x509.CertificateRequest, p Profile) faults {
	var f faults
	if len(csr.EmailAddresses) > 0 || len(csr.URIs) > 0 {
		f.addf("e-mail addresses and URIs are not allowed as names")
	}
	for _, e := range csr.Extensions {
		n := -1
		if len(e.Id) == 4 && e.Id[:3].Equal(asn1.ObjectIdentifier{2, 5, 29}) {
			n = e.Id[3]
		}
		switch n {
		case extSubjectKeyID:
		case extSubjectAltName:
			f.add(checkSAN(e.Value))
		case extKeyUsage:
			f.add(checkAskedKeyUsage(e.Value, p, KeyTypeOf(csr.PublicKey)))
		case extExtendedKeyUsage:
			f.add(checkAskedExtKeyUsage(e.Value, p))
		case extBasicConstraints:
			var bc struct {
				IsCA       bool `asn1:"optional"`
				MaxPathLen int  `asn1:"optional,default:-1"`
			}
			if rest, err := asn1.Unmarshal(e.Value, &bc); err != nil || len(rest) > 0 {
				f.addf("basic constraints are damaged")
			} else if bc.IsCA {
				f.addf("it asks to become an authority")
			}
		default:
			f.addf("%s is not allowed", e.Id)
		}
	}
	return f
}

// checkSAN finds kinds of names that crypto/x509 skips in silence.
func checkSAN(der []byte) error {
	var seq []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
		return fmt.Errorf("subject alternative names are damaged")
	}
	const tagDNS, tagIP = 2, 7
	for _, n := range seq {
		if n.Class != asn1.ClassContextSpecific || n.Tag != tagDNS && n.Tag != tagIP {
			return fmt.Errorf("a subject alternative name of kind %d is not allowed: DNS names and addresses only", n.Tag)
		}
	}
	return nil
}

func checkAskedKeyUsage(der []byte, p Profile, kt KeyType) error {
	var got asn1.BitString
	if rest, err := asn1.Unmarshal(der, &got); err != nil || len(rest) > 0 {
		return fmt.Errorf("key usage is damaged")
	}
	var ku x509.KeyUsage
	for i := range min(got.BitLength, 9) {
		if got.At(i) != 0 {
			ku |= 1 << i
		}
	}
	return checkKeyUsage(ku, p, kt, false)
}

func checkAskedExtKeyUsage(der []byte, p Profile) error {
	var oids []asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(der, &oids); err != nil || len(rest) > 0 {
		return fmt.Errorf("extended key usage is damaged")
	}
	for _, o := range oids {
		if !slices.ContainsFunc(p.ExtKeyUsage(), func(u x509.ExtKeyUsage) bool { return ekuOID(u).Equal(o) }) {
			return fmt.Errorf("extended key usage %s is not allowed", o)
		}
	}
	return nil
}

// checkKeyUsage allows signatures, and what only matters to old key exchanges where the kind of key can do it. Required
// tells that signatures must be there: a TLS 1.3 peer needs them.
func checkKeyUsage(ku x509.KeyUsage, p Profile, kt KeyType, required bool) error {
	allowed := x509.KeyUsageDigitalSignature
	if strings.HasPrefix(string(kt), "rsa-") {
		allowed |= x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	} else {
		allowed |= x509.KeyUsageKeyAgreement
	}
	if ku&^allowed != 0 {
		return fmt.Errorf("key usage %s is not allowed for a %s key", strings.Join(keyUsageNames(ku&^allowed), ", "), kt)
	}
	if required && ku&x509.KeyUsageDigitalSignature == 0 {
		return fmt.Errorf("key usage digitalSignature is missing: a %s cannot do without", p.Name)
	}
	return nil
}

func keyUsageNames(ku x509.KeyUsage) []string {
	all := []string{"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement",
		"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}
	var out []string
	for i, name := range all {
		if ku&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}
