package apiproxy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// ErrNotReady is what a check answers of an API server that is alive and asks
// for no new connections. Those that it has may stay.
var ErrNotReady = errors.New("not ready")

// timing is how long things take.
type timing struct {
	dial   time.Duration // at most, to connect to one endpoint
	hedge  time.Duration // after which the next endpoint is tried beside it
	every  time.Duration // between checks of an endpoint that works
	check  time.Duration // at most, for one check
	first  time.Duration // between the first failed check and the next
	most   time.Duration // between failed checks
	drain  time.Duration // what connections to a removed endpoint still have
	accept time.Duration // pause when the machine has no more files to open
}

func usual() timing {
	return timing{
		dial: 3 * time.Second, hedge: 250 * time.Millisecond, every: 15 * time.Second, check: 5 * time.Second,
		first: 500 * time.Millisecond, most: 10 * time.Second, drain: 10 * time.Second, accept: 100 * time.Millisecond,
	}
}

// failedChecks in a row are needed to call an endpoint down. A refused
// connection is enough by itself.
const failedChecks = 2

// stays is how many failed checks in a row make one that is alive, and not
// ready, worth leaving: 3.5 s after the first. Requests to it may hang, as they
// do where its datastore is gone.
const stays = 4

// endpoint is one API server.
type endpoint struct {
	addr  netip.AddrPort
	down  bool
	links map[*link]struct{}
	kick  chan struct{} // asks for a check now
	end   context.CancelFunc
	leave *time.Timer // ends the connections of one that was removed
}

// pool is the API servers, and who is connected to which.
type pool struct {
	t     timing
	check func(context.Context, netip.AddrPort) error
	log   hclog.Logger
	ctx   context.Context //nolint:containedctx // the life of the whole pool; checks and dials end with it
	wg    sync.WaitGroup

	mu   sync.Mutex
	all  []*endpoint // those that were removed and have connections, too
	turn int
}

// set makes the list the one that counts. An endpoint that stays keeps its
// connections; one that went gets no new ones, and the old ones end after a
// while. It reports whether anything changed.
func (p *pool) set(list []netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := false
	for _, e := range p.all {
		if e.leave == nil && !slices.Contains(list, e.addr) {
			p.remove(e)
			changed = true
		}
	}
	for _, addr := range list {
		i := slices.IndexFunc(p.all, func(e *endpoint) bool { return e.addr == addr })
		if i >= 0 && p.all[i].leave == nil {
			continue
		}
		changed = true
		if i >= 0 && p.all[i].leave.Stop() {
			e := p.all[i]
			e.leave, e.down = nil, false
			p.start(e)
			continue
		}
		e := &endpoint{addr: addr, links: map[*link]struct{}{}, kick: make(chan struct{}, 1)}
		p.all = append(p.all, e)
		p.start(e)
	}
	return changed
}

func (p *pool) start(e *endpoint) {
	ctx, cancel := context.WithCancel(p.ctx)
	e.end = cancel
	p.wg.Go(func() { p.watch(ctx, e) })
}

// remove is called with the lock held.
func (p *pool) remove(e *endpoint) {
	e.end()
	e.leave = time.AfterFunc(p.t.drain, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.all, e); i >= 0 {
			p.all = slices.Delete(p.all, i, i+1)
		}
		e.cut()
	})
}

// cut ends all connections of an endpoint. The lock is held.
func (e *endpoint) cut() {
	for l := range e.links {
		l.close()
	}
}

// close ends all connections and waits for all goroutines; the pool's context
// has ended.
func (p *pool) close() {
	p.mu.Lock()
	for _, e := range p.all {
		if e.leave != nil {
			e.leave.Stop()
		}
		e.end()
		e.cut()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// candidates are the endpoints in the order in which a connection tries them:
// those that work first, the ones with the fewest connections first of all.
// Those that are down follow: if all are, one of them may work by now.
func (p *pool) candidates() []*endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*endpoint
	for i := range p.all { // whose turn it is decides where the numbers are the same
		if e := p.all[(i+p.turn)%len(p.all)]; e.leave == nil {
			list = append(list, e)
		}
	}
	p.turn++
	slices.SortStableFunc(list, func(a, b *endpoint) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(len(a.links), len(b.links)))
	})
	return list
}

func rank(e *endpoint) int {
	if e.down {
		return 1
	}
	return 0
}

// errNowhere is the error where the list is empty.
var errNowhere = errors.New("no control-plane node is known")

// attempt is one try to connect.
type attempt struct {
	e    *endpoint
	conn *net.TCPConn
	err  error
}

// dial connects to the first endpoint that answers. One that is slow is not
// waited for: the next is tried beside it.
func (p *pool) dial(ctx context.Context) (*endpoint, *net.TCPConn, error) {
	list := p.candidates()
	results := make(chan attempt, len(list))
	hedge := time.NewTimer(0)
	defer hedge.Stop()
	begun, ended := 0, 0
	var faults []error
	for ended < len(list) {
		next := hedge.C
		if begun == len(list) {
			next = nil
		}
		select {
		case <-ctx.Done():
			p.discard(results, begun-ended)
			return nil, nil, ctx.Err()
		case <-next:
			e := list[begun]
			begun++
			p.wg.Go(func() { results <- p.try(e) })
			hedge.Reset(p.t.hedge)
		case a := <-results:
			ended++
			if a.err == nil {
				p.discard(results, begun-ended)
				return a.e, a.conn, nil
			}
			faults = append(faults, a.err)
			hedge.Reset(0)
		}
	}
	if len(faults) == 0 {
		return nil, nil, errNowhere
	}
	return nil, nil, errors.Join(faults...)
}

// discard closes what connects after another was faster. Each is waited for:
// so one that hangs is known to, and not tried again by the next connection.
func (p *pool) discard(results <-chan attempt, open int) {
	if open == 0 {
		return
	}
	p.wg.Go(func() {
		for range open {
			if a := <-results; a.conn != nil {
				a.conn.Close() //nolint:errcheck,gosec // nobody used it
			}
		}
	})
}

func (p *pool) try(e *endpoint) attempt {
	d := net.Dialer{Timeout: p.t.dial, KeepAliveConfig: keepAlive(), Control: giveUpOnSilence}
	conn, err := d.DialContext(p.ctx, "tcp", e.addr.String())
	if err != nil {
		if p.ctx.Err() == nil {
			p.failed(e, err)
		}
		return attempt{e: e, err: err}
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok { // a dialer of "tcp" gives nothing else
		return attempt{e: e, err: errors.Join(errors.New("not a TCP connection"), conn.Close())}
	}
	return attempt{e: e, conn: tcp}
}

// failed notes that a connection was refused or not answered.
func (p *pool) failed(e *endpoint, err error) {
	if p.mark(e, true, err) {
		select {
		case e.kick <- struct{}{}:
		default:
		}
	}
}

// mark says whether an endpoint works; true where that is new.
func (p *pool) mark(e *endpoint, down bool, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.down == down {
		return false
	}
	e.down = down
	if down {
		p.log.Warn("an API server does not answer: skipped until it does", "endpoint", e.addr.String(), "error", err.Error())
	} else {
		p.log.Info("an API server answers again", "endpoint", e.addr.String())
	}
	return true
}

// add lists a connection, unless its endpoint has gone meanwhile.
func (p *pool) add(e *endpoint, l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || !slices.Contains(p.all, e) {
		return false
	}
	e.links[l] = struct{}{}
	return true
}

func (p *pool) drop(e *endpoint, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(e.links, l)
}

// watch checks one endpoint until it is removed: seldom while it works, and
// with growing pauses while it does not.
func (p *pool) watch(ctx context.Context, e *endpoint) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	fails := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		case <-e.kick:
		}
		err := p.checkOnce(ctx, e)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			fails = 0
			p.mark(e, false, nil)
			wait.Reset(p.t.every)
			continue
		}
		fails++
		if fails >= failedChecks {
			p.mark(e, true, err)
			if fails >= stays || !errors.Is(err, ErrNotReady) {
				p.shed(e)
			}
		}
		wait.Reset(min(p.t.first<<min(fails-1, 10), p.t.most))
	}
}

func (p *pool) checkOnce(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, p.t.check)
	defer cancel()
	return p.check(ctx, e.addr)
}

// shed ends the connections to an API server that hangs, or stays not ready, so
// that their clients come back and get another; where there is another.
func (p *pool) shed(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.all, func(o *endpoint) bool { return !o.down && o.leave == nil }) {
		e.cut()
	}
}
