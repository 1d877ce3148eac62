package agent

import (
	"bytes"
	"context"
	"io"
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
			reply(w, http.StatusTooManyRequests, peer.Problem{Error: peer.ProblemText{Reason: peer.TooOften, Message: "too many requests: try again in a second"}})
			return
		}
		next.ServeHTTP(w, r)
	})
}

const (
	// atOnce is how many joins are worked on at the same time, mostQueued how
	// many wait: each asks plugins, which have seconds for an answer and do one
	// thing after the other.
	atOnce     = 16
	mostQueued = 256
	// queueLimit is how long one waits: less than its client does.
	queueLimit = 30 * time.Second
)

// queue has what changes the cluster for a joiner wait for its turn, so that
// the more come the longer they wait, and none fails.
type queue struct {
	turns   chan struct{}
	waiting chan struct{}
	limit   time.Duration
}

func newQueue() *queue {
	return &queue{turns: make(chan struct{}, atOnce), waiting: make(chan struct{}, mostQueued), limit: queueLimit}
}

// take waits for a turn; false means that it is better to come again.
func (q *queue) take(ctx context.Context) bool {
	select {
	case q.waiting <- struct{}{}:
		defer func() { <-q.waiting }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, q.limit)
	defer cancel()
	select {
	case q.turns <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (q *queue) give() { <-q.turns }

// queued serves what is asked in its turn. The question is read before: who
// sends it slowly keeps nobody waiting.
func (q *queue) queued(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			unreadable(w)
			return
		}
		if !q.take(r.Context()) {
			w.Header().Set("Retry-After", "2")
			reply(w, http.StatusServiceUnavailable, peer.Problem{Error: peer.ProblemText{Reason: peer.Busy, Message: manyJoin}})
			return
		}
		defer q.give()
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

const manyJoin = "many nodes join just now: try again in a few seconds"
