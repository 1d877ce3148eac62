package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Trust is what verifies the certificates of an authority. Servers and clients may be trusted by different certificates:
// with a company's authority, clients by the cluster's own intermediate only.
type Trust struct {
	Servers []byte // PEM, verifies servers
	Clients []byte // PEM, verifies clients
}

// Expect is what a certificate is checked against after signing.
type Expect struct {
	CSR     *x509.CertificateRequest // that was given to the authority; CheckCSR has passed it
	Request Request                  // what was asked
	Granted *Names                   // of the names that the CSR asks for, those that were granted; nil means all
	Trust   Trust                    // of the request's authority
	AskedAt time.Time                // when it was asked; the zero time means Now. Signatures may be pending for days
	Now     time.Time
}

// Backdate is how long before it was asked a certificate may begin: authorities allow for clocks that are behind.
const Backdate = 10 * time.Minute

// CheckCertificate tells whether a signed certificate may be used: its key, subject, names, usages and life are what was
// asked (a shorter life is allowed), it is no authority, and it verifies for each of its usages. It reports every fault.
func CheckCertificate(certPEM []byte, e Expect) error {
	cert, between, err := ParseSent(certPEM)
	if err != nil {
		return err
	}
	csr, p := e.CSR, e.Request.Profile
	var f faults
	if !samePublic(cert.PublicKey, csr.PublicKey) {
		f.addf("key: it is for another key than the request's")
	}
	if p.freeSubject() && !sameSubject(cert.Subject, csr.Subject) {
		f.addf("subject: %.200q instead of the request's %.200q", cert.Subject.String(), csr.Subject.String())
	}
	f.add(subjectFaults(cert.Subject, p, e.Request.Node).wrap("subject"))
	names := NamesOf(csr.DNSNames, csr.IPAddresses)
	if e.Granted != nil {
		names = *e.Granted
	}
	f.add(nameFaults(cert, names).wrap("names"))
	f.add(formFaults(cert, p).wrap("form"))
	f.add(lifeFaults(cert, e).wrap("life"))
	f.add(verify(cert, between, p, e.Trust, e.Now))
	return f.wrap("certificate %s refused", p.Name)
}

// sameSubject compares the attributes that Kubernetes reads, and that there are no others. Their order in the name means
// nothing to it, and authorities write it as they like.
func sameSubject(a, b pkix.Name) bool {
	return a.CommonName == b.CommonName && len(a.Names) == len(b.Names) &&
		slices.Equal(slices.Sorted(slices.Values(a.Organization)), slices.Sorted(slices.Values(b.Organization)))
}

// nameFaults wants exactly the names that were asked.
func nameFaults(cert *x509.Certificate, want Names) faults {
	var f faults
	got := NamesOf(cert.DNSNames, cert.IPAddresses)
	if missing := want.Without(got); !missing.Empty() {
		f.addf("%s missing", quoteAll(missing.Strings()))
	}
	if extra := got.Without(want); !extra.Empty() {
		f.addf("%s not asked for", quoteAll(extra.Strings()))
	}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oidExtension(extSubjectAltName)) {
			f.add(checkSAN(ext.Value))
		}
	}
	return f
}

// formFaults looks at what makes a certificate a leaf of its profile, whoever signed it.
func formFaults(cert *x509.Certificate, p Profile) faults {
	var f faults
	if cert.Version != 3 {
		f.addf("X.509 version %d instead of 3", cert.Version)
	}
	if cert.IsCA {
		f.addf("it is an authority")
	}
	// RFC 5280: positive, at most 20 octets; crypto/x509 has refused negative ones.
	if cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 159 {
		f.addf("serial number %x is not between 1 and 20 octets", cert.SerialNumber)
	}
	f.add(checkKeyUsage(cert.KeyUsage, p, KeyTypeOf(cert.PublicKey), true))
	want := p.ExtKeyUsage()
	for _, u := range want {
		if !slices.Contains(cert.ExtKeyUsage, u) {
			f.addf("extended key usage %s is missing", ekuName(u))
		}
	}
	for _, u := range cert.ExtKeyUsage {
		if !slices.Contains(want, u) {
			f.addf("extended key usage %s is not allowed", ekuName(u))
		}
	}
	for _, u := range cert.UnknownExtKeyUsage {
		f.addf("extended key usage %s is not allowed", u)
	}
	for _, id := range cert.UnhandledCriticalExtensions {
		f.addf("critical extension %s is not understood", id)
	}
	return f
}

func ekuName(u x509.ExtKeyUsage) string {
	switch u {
	case x509.ExtKeyUsageServerAuth:
		return "serverAuth"
	case x509.ExtKeyUsageClientAuth:
		return "clientAuth"
	case x509.ExtKeyUsageAny:
		return "any"
	}
	return fmt.Sprintf("number %d", u)
}

func lifeFaults(cert *x509.Certificate, e Expect) faults {
	var f faults
	asked := e.AskedAt
	if asked.IsZero() {
		asked = e.Now
	}
	life := e.Request.life()
	if from := asked.Add(-Backdate).Truncate(time.Second); cert.NotBefore.Before(from) {
		f.addf("it begins at %s, more than %s before it was asked", stamp(cert.NotBefore), Backdate)
	}
	if cert.NotBefore.After(e.Now) {
		f.addf("it begins at %s, and here it is %s: the clocks differ", stamp(cert.NotBefore), stamp(e.Now))
	}
	if !cert.NotAfter.After(e.Now) {
		f.addf("it ended at %s", stamp(cert.NotAfter))
	}
	// The life asked counts from the signing, which lies between asking and now.
	if got := cert.NotAfter.Sub(cert.NotBefore); got > life+Backdate || cert.NotAfter.After(e.Now.Add(life+Backdate)) {
		f.addf("it lasts %s until %s; %s were asked", got, stamp(cert.NotAfter), life)
	}
	return f
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// verify builds a chain for each usage of the profile, and wants one in which nothing ends before the leaf.
func verify(cert *x509.Certificate, between []*x509.Certificate, p Profile, t Trust, at time.Time) error {
	var f faults
	pool := x509.NewCertPool()
	for _, c := range between {
		pool.AddCert(c)
	}
	var chain []*x509.Certificate // that serves any usage of the leaf, if those who verify servers and clients are the same
	for _, usage := range p.ExtKeyUsage() {
		bundle := t.Servers
		if usage == x509.ExtKeyUsageClientAuth {
			bundle = t.Clients
		}
		if chain != nil && bytes.Equal(t.Servers, t.Clients) {
			continue
		}
		var err error
		if chain, err = verifyUsage(cert, usage, bundle, pool, at); err != nil {
			f.addf("as %s, by authority %s: %w", ekuName(usage), p.Authority, err)
		}
		if slices.ContainsFunc(chain, limited) {
			chain = nil
		}
	}
	return f.wrap("verify")
}

// limited tells that an authority is good for some usages only.
func limited(ca *x509.Certificate) bool { return len(ca.ExtKeyUsage)+len(ca.UnknownExtKeyUsage) > 0 }

// verifyUsage answers the authorities above a certificate.
func verifyUsage(cert *x509.Certificate, usage x509.ExtKeyUsage, bundle []byte, between *x509.CertPool, at time.Time) ([]*x509.Certificate, error) {
	certs, err := ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, c := range certs {
		roots.AddCert(c)
	}
	found, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped once by verify
	}
	// A leaf that is in the bundle itself verifies alone: then nobody has signed it.
	found = slices.DeleteFunc(found, func(c []*x509.Certificate) bool { return len(c) < 2 })
	if len(found) == 0 {
		return nil, errors.New("it is itself in the bundle that should verify it")
	}
	for _, c := range found {
		if !slices.ContainsFunc(c[1:], func(ca *x509.Certificate) bool { return ca.NotAfter.Before(cert.NotAfter) }) {
			return c[1:], nil
		}
	}
	return nil, fmt.Errorf("its authority ends before it, at %s", stamp(found[0][1].NotAfter))
}
