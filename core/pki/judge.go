package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
)

// Want is what a certificate on disk should be now. Empty parts are not judged, but for the profile.
type Want struct {
	Profile Profile
	Node    string
	Names   Names            // must be there; more are no fault, since names are only ever added while a node runs
	Key     crypto.PublicKey // of the key file beside it
	KeyType KeyType          // of the settings
	Trust   Trust            // of its authority
}

// Code is the kind of a reason, for programs.
type Code string

// The codes.
const (
	Unreadable   Code = "unreadable"
	KeyMismatch  Code = "key-mismatch"
	WrongSubject Code = "wrong-subject"
	MissingName  Code = "missing-name"
	WrongForm    Code = "wrong-form"
	WrongIssuer  Code = "wrong-issuer"
	NotYet       Code = "not-yet-valid"
	Expiring     Code = "expiring"
	HasExpired   Code = "expired"
	OtherKeyType Code = "other-key-type"
)

// Reason is why a certificate should be replaced.
type Reason struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

func (r Reason) String() string { return r.Text }

// Urgent tells that something fails already. What is not urgent can wait for the next renewal.
func (r Reason) Urgent() bool { return r.Code != Expiring && r.Code != OtherKeyType }

// Judge compares a certificate with what is wanted, by what it contains, never by how a text reads. No reason: leave it.
func Judge(certPEM []byte, w Want, now time.Time) []Reason {
	cert, between, err := ParseSent(certPEM)
	if err != nil {
		return []Reason{{Unreadable, err.Error()}}
	}
	var out []Reason
	add := func(c Code, err error) {
		if err != nil {
			out = append(out, Reason{c, err.Error()})
		}
	}
	if w.Key != nil && !samePublic(cert.PublicKey, w.Key) {
		add(KeyMismatch, fmt.Errorf("the key beside it is another one's"))
	}
	if !w.Profile.freeSubject() {
		add(WrongSubject, subjectFaults(cert.Subject, w.Profile, w.Node).wrap("subject"))
	}
	if missing := w.Names.Without(NamesOf(cert.DNSNames, cert.IPAddresses)); !missing.Empty() {
		add(MissingName, fmt.Errorf("%s missing", quoteAll(missing.Strings())))
	}
	add(WrongForm, formFaults(cert, w.Profile).wrap("form"))
	if len(w.Trust.Servers)+len(w.Trust.Clients) > 0 {
		add(WrongIssuer, verify(cert, between, w.Profile, w.Trust, within(cert, now)))
	}
	if kt := KeyTypeOf(cert.PublicKey); w.KeyType != "" && kt != w.KeyType {
		add(OtherKeyType, fmt.Errorf("its key is %s, the setting is %s", kt, w.KeyType))
	}
	return append(out, lifeReasons(cert, now)...)
}

func lifeReasons(cert *x509.Certificate, now time.Time) []Reason {
	switch Describe(cert).State(now) {
	case NotYetValid:
		return []Reason{{NotYet, fmt.Sprintf("valid only from %s", stamp(cert.NotBefore))}}
	case Expired:
		return []Reason{{HasExpired, fmt.Sprintf("expired at %s", stamp(cert.NotAfter))}}
	case Due:
		return []Reason{{Expiring, fmt.Sprintf("to be renewed since %s, expires at %s", stamp(RenewAt(cert)), stamp(cert.NotAfter))}}
	case Valid:
	}
	return nil
}

// within moves a time into the life of a certificate, so that who issued it is judged apart from whether it has ended.
func within(cert *x509.Certificate, now time.Time) time.Time {
	if now.Before(cert.NotBefore) {
		return cert.NotBefore
	}
	if now.After(cert.NotAfter) {
		return cert.NotAfter
	}
	return now
}
