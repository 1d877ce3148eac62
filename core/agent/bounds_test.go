package agent

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/peer"
)

// Who sends slowly, or a header without an end, keeps no connection: nobody
// knows yet who that is.
func TestSlowAndLargeHeadersEnd(t *testing.T) {
	t.Parallel()
	lent := httptest.NewTLSServer(http.NotFoundHandler())
	defer lent.Close()
	s := &server{log: &kept{}, images: newImages(time.Now), queue: newQueue(), trust: &pairs{}}
	h := bounded(s.routes(), func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &lent.TLS.Certificates[0], nil })
	h.ErrorLog = log.New(io.Discard, "", 0)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = h.ServeTLS(l, "", "") }() // ends with Close
	t.Cleanup(func() { _ = h.Close() })
	const begun = "POST " + peer.BeginPath + " HTTP/1.1\r\nHost: x\r\n"
	for _, c := range []struct{ name, sent, want string }{
		{"a header that does not end", begun, ""},
		{"a header of a megabyte", begun + "X-Long: " + strings.Repeat("x", 1<<20), "431 "},
		{"a whole one", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", l.Addr().String()) //nolint:gosec // nobody is trusted here
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // only read
			began := time.Now()
			if err := conn.SetDeadline(began.Add(3 * headerLimit)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, c.sent) // it may be cut off
			line, err := bufio.NewReader(conn).ReadString('\n')
			if c.want == "" {
				if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < headerLimit/2 {
					t.Errorf("after %s: %q, %v", time.Since(began), line, err)
				}
				return
			}
			if !strings.Contains(line, c.want) {
				t.Errorf("%q, %v, want %q", line, err, c.want)
			}
		})
	}
}
