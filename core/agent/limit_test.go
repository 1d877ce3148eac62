package agent

import (
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestLimitIsPerAddressAndComesBack(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	l := newLimiter(func() time.Time { return now })
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i := range burst {
		if !l.allow(a) {
			t.Fatalf("request %d is refused", i)
		}
	}
	if l.allow(a) {
		t.Error("more than the burst is let through")
	}
	if !l.allow(b) {
		t.Error("one address is refused for another's requests")
	}
	now = now.Add(time.Second)
	for i := range perSecond {
		if !l.allow(a) {
			t.Fatalf("a second later, request %d is refused", i)
		}
	}
	if l.allow(a) {
		t.Error("more than a second's share is let through")
	}
}

func TestLimitIsBoundedInMemory(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	l := newLimiter(func() time.Time { return now })
	from := func(i uint32) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000+i)
		return netip.AddrFrom4(b)
	}
	refused := 0
	for i := range uint32(2 * mostAddresses) {
		if !l.allow(from(i)) {
			refused++
		}
	}
	if len(l.byAddr) > mostAddresses || refused == 0 {
		t.Errorf("%d addresses are remembered, %d refused", len(l.byAddr), refused)
	}
	now = now.Add(time.Minute)
	if !l.allow(from(1<<20)) || len(l.byAddr) > 1 {
		t.Errorf("%d addresses are remembered after a minute", len(l.byAddr))
	}
}

func TestLimitedAnswers(t *testing.T) {
	t.Parallel()
	l := newLimiter(time.Now)
	h := l.limited(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	codes := map[int]int{}
	for range 2 * burst {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/health", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		codes[w.Code]++
	}
	if codes[http.StatusNoContent] < burst || codes[http.StatusTooManyRequests] == 0 {
		t.Errorf("answers: %v", codes)
	}
}
