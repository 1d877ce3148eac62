package agent

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mk8s.io/mk/core/peer"
)

const (
	// perSecond and burst are what one address may ask: far more than a join
	// does, and far less than what would keep a node from its work.
	perSecond = 20
	burst     = 100
	// mostAddresses bounds the memory for them; together the others share one.
	mostAddresses = 4096
)

// limiter bounds how often an address may ask, before anyone knows who it is.
type limiter struct {
	now func() time.Time

	mu     sync.Mutex
	byAddr map[netip.Addr]*rate.Limiter
	rest   *rate.Limiter
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, byAddr: map[netip.Addr]*rate.Limiter{}, rest: rate.NewLimiter(perSecond, burst)}
}

func (l *limiter) allow(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	one, ok := l.byAddr[from]
	if !ok {
		if len(l.byAddr) >= mostAddresses {
			l.drop(now)
		}
		if len(l.byAddr) >= mostAddresses {
			return l.rest.AllowN(now, 1)
		}
		one = rate.NewLimiter(perSecond, burst)
		l.byAddr[from] = one
	}
	return one.AllowN(now, 1)
}

// drop forgets the addresses that have not asked for a while.
func (l *limiter) drop(now time.Time) {
	for a, one := range l.byAddr {
		if one.TokensAt(now) >= burst {
			delete(l.byAddr, a)
		}
	}
}

// limited refuses what comes too often.
func (l *limiter) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !l.allow(from.Addr().Unmap()) {
			w.Header().Set("Retry-After", "1")
			reply(w, http.StatusTooManyRequests, peer.Problem{Error: peer.ProblemText{Reason: "TOO_OFTEN", Message: "too many requests: try again in a second"}})
			return
		}
		next.ServeHTTP(w, r)
	})
}
