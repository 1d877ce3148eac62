package operation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
)

// dated writes a certificate that begins at a time.
func dated(t *testing.T, file string, from time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheClockOfCertificatesThatWereSwitched: what counts are those that are
// there now, also where a generation that was undone is made again under its
// number, and those of the datastore, which are in no generation.
func TestTheClockOfCertificatesThatWereSwitched(t *testing.T) {
	t.Parallel()
	root, err := node.Create(t.TempDir()+"/mk", node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	i := &Issuer{Root: root}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(hours int) time.Time { return begin.Add(time.Duration(hours) * time.Hour) }
	check := func(what string, hours int) { // the newest begins then
		t.Helper()
		if err := i.checkClock(at(hours)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := i.checkClock(at(hours).Add(-time.Minute)); !errors.Is(err, pki.ErrClock) {
			t.Errorf("%s, a minute before: %v", what, err)
		}
	}
	to := func(generation, hours int) {
		t.Helper()
		dir, err := root.NextCerts(generation)
		if err != nil {
			t.Fatal(err)
		}
		dated(t, root.Path(dir, "server.crt"), at(hours))
		if err := root.FlipCerts(generation); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.checkClock(begin.AddDate(-1, 0, 0)); err != nil {
		t.Errorf("no certificate: %v", err)
	}
	to(2, 2)
	check("the first", 2)
	to(3, 30)
	check("the next", 30)
	if err := root.FlipCerts(2); err != nil { // undone
		t.Fatal(err)
	}
	check("undone", 2)
	to(3, 20)
	check("the same number", 20)
	member, err := pki.Find(pki.DatastoreMember)
	if err != nil {
		t.Fatal(err)
	}
	dated(t, root.Path(member.CertFile()), at(40))
	check("the datastore's", 40)
}

// TestNothingIsMadeWhileTheClockIsBehind: neither behind mk's own build, before
// anything is written, nor behind the newest certificate on disk.
func TestNothingIsMadeWhileTheClockIsBehind(t *testing.T) {
	t.Parallel()
	mk := shippedPlugins(t)
	c := newNode(t, mk)
	early := c.options(nil)
	early.Now = func() time.Time { return early.Built.Add(-time.Hour) }
	if err := Preflight(t.Context(), early, StartOptions{}); !errors.Is(err, pki.ErrClock) {
		t.Errorf("a start before mk was built: %v", err)
	}
	if _, err := os.Lstat(c.Root); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
	c.run(t)
	late := c.options(nil)
	late.Now = func() time.Time { return time.Now().Add(-time.Hour) } // long after the build
	n, err := c.open(late)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // nothing was started
	before := files(t, c.Root)
	if _, err := n.Renew(t.Context(), RenewOptions{}); !errors.Is(err, pki.ErrClock) {
		t.Errorf("certificates older than those on disk: %v", err)
	}
	for name, text := range files(t, c.Root) {
		if before[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
}
