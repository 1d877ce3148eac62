package agent

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mk8s.io/mk/core/peer"
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

// More joiners than are served at once wait, and all are served; only who
// waits too long is asked to come again.
func TestJoinersAreServedInTurn(t *testing.T) {
	t.Parallel()
	q := newQueue()
	var mu sync.Mutex
	now, most, started := 0, 0, make(chan struct{}, 200)
	hold := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		started <- struct{}{}
		<-hold
		mu.Lock()
		now--
		mu.Unlock()
		_, _ = io.Copy(w, r.Body)
	})
	ask := func(q *queue, body io.Reader) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q.queued(h).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body))
		return w
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if w := ask(q, strings.NewReader("me")); w.Code != http.StatusOK || w.Body.String() != "me" {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		})
	}
	for range atOnce {
		<-started
	}
	hurried := &queue{turns: q.turns, waiting: make(chan struct{}, 1)}
	if w := ask(hurried, strings.NewReader("late")); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if w := ask(hurried, strings.NewReader(strings.Repeat("x", maxBody+1))); w.Code != http.StatusBadRequest {
		t.Errorf("too much is answered %d", w.Code)
	}
	close(hold)
	wg.Wait()
	if most != atOnce || len(q.turns) != 0 || len(q.waiting) != 0 {
		t.Errorf("%d at once; %d and %d are left", most, len(q.turns), len(q.waiting))
	}
}

// Nothing is asked of the strategy before its request was read.
func TestALargeRequestOfTheStrategy(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	(&server{}).strategy(w, httptest.NewRequest(http.MethodPost, peer.StrategyPath+"/x", strings.NewReader(strings.Repeat("x", maxBody+1))))
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "the request is too large") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
