package membership

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// standIn is an agent that answers a preflight as it is told; its certificate
// begins when it says.
func standIn(t *testing.T, begins time.Time, answer http.HandlerFunc) (*peer.Client, *look) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in"}, NotBefore: begins, NotAfter: begins.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST "+peer.CheckPath, answer)
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l := &look{Report: &Report{}, role: node.Worker, options: operation.Options{Now: time.Now, Version: "1"}}
	l.o = JoinOptions{Server: strings.TrimPrefix(s.URL, "https://"), Fingerprint: peer.Fingerprint(parsed)}
	c, err := l.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, l
}

// What the other side says, or does not, is what the joiner says: each by its
// own reason, and nothing of it is written anywhere.
func TestWhatAServerSays(t *testing.T) {
	t.Parallel()
	problem := func(reason plugin.Reason) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(peer.Problem{Error: peer.ProblemText{Reason: reason, Message: "no"}})
		}
	}
	says := func(c peer.Checked) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(c) }
	}
	now := time.Now()
	versions := map[string]string{"kubernetes": operation.KubernetesVersion}
	for name, c := range map[string]struct {
		begins time.Time
		answer http.HandlerFunc
		reason plugin.Reason
	}{
		"all is well":          {now, says(peer.Checked{Now: now, Versions: versions}), ""},
		"a used token":         {now, problem(plugin.TokenUsed), plugin.TokenUsed},
		"an expired token":     {now, problem(plugin.TokenExpired), plugin.TokenExpired},
		"a foreign token":      {now, problem(plugin.TokenUnknown), plugin.TokenUnknown},
		"a token that is held": {now, problem(plugin.TokenReserved), plugin.TokenReserved},
		"a name that is taken": {now, says(peer.Checked{Now: now, Versions: versions, Refused: []peer.ProblemText{{Reason: NameTaken, Message: "no"}}}), NameTaken},
		// Its key is what counts: its certificate is not valid here yet.
		"an hour ahead":  {now.Add(time.Hour), says(peer.Checked{Now: now.Add(time.Hour), Versions: versions}), ClockSkew},
		"an hour behind": {now.Add(-3 * time.Hour), says(peer.Checked{Now: now.Add(-time.Hour), Versions: versions}), ClockSkew},
		"one that stops answering": {now, func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
		}, peer.Unreachable},
	} {
		client, l := standIn(t, c.begins, c.answer)
		err := l.compare(t.Context(), client, peer.Check{Nonce: make([]byte, peer.NonceSize)})
		if err == nil {
			err = l.first
		}
		if (err == nil) != (c.reason == "") || err != nil && !errors.Is(err, c.reason) {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
	}
}
