package apiproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/timer"
)

// mostLinks bounds what one node's programs can open.
const mostLinks = 4096

// Proxy passes connections on. Its fields are set before Run.
type Proxy struct {
	Listener  net.Listener
	Endpoints []netip.AddrPort // known at the start
	// Follow tells the endpoints whenever they change, until its context
	// ends. It may use the proxy itself.
	Follow func(ctx context.Context, see func([]netip.AddrPort)) error
	// Check asks one endpoint whether it takes connections.
	Check func(ctx context.Context, addr netip.AddrPort) error
	// Keep remembers endpoints for the next start.
	Keep func([]netip.AddrPort) error
	Log  hclog.Logger

	timing *timing // nil: the usual
	links  atomic.Int64
}

// Run works until ctx ends, which is no error. It closes the listener.
func (x *Proxy) Run(ctx context.Context) error {
	t := usual()
	if x.timing != nil {
		t = *x.timing
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &pool{t: t, check: x.Check, log: x.Log, ctx: ctx}
	p.set(x.Endpoints)
	var wg sync.WaitGroup
	wg.Go(func() { x.follow(ctx, p) })
	stop := context.AfterFunc(ctx, func() { x.Listener.Close() }) //nolint:errcheck,gosec // Accept tells
	err := x.accept(ctx, p)
	stop()
	cancel()
	err = errors.Join(err, ignoreClosed(x.Listener.Close()))
	wg.Wait() // before close: it may still add endpoints
	p.close()
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// follow takes over what Follow sees, and has it begin anew after an error: on a
// node that joins its credentials are made while the proxy starts. A list
// without any endpoint is not believed: a cluster has an API server, or nobody
// could have said so.
func (x *Proxy) follow(ctx context.Context, p *pool) {
	for pause := p.t.first; ; pause = min(2*pause, p.t.most) {
		err := x.Follow(ctx, func(list []netip.AddrPort) {
			if len(list) == 0 || !p.set(list) {
				return
			}
			x.Log.Info("the API servers changed", "endpoints", string(FormatList(list)))
			if err := x.Keep(list); err != nil {
				x.Log.Error("the list of API servers is not on the disk; a restart begins with the old one", "error", err.Error())
			}
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		x.Log.Info("the API servers cannot be followed yet", "error", err.Error())
		if !timer.Wait(ctx, pause) {
			return
		}
	}
}

// accept takes connections until the listener is closed.
func (x *Proxy) accept(ctx context.Context, p *pool) error {
	for {
		conn, err := x.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				return conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept connections: %w", err)
		case err != nil: // no more files, a client that is gone again
			x.Log.Warn("cannot accept a connection", "error", err.Error())
			if !timer.Wait(ctx, p.t.accept) {
				return nil
			}
			continue
		}
		client, ok := conn.(*net.TCPConn)
		if !ok || x.links.Load() >= mostLinks {
			x.Log.Warn("a connection is refused: there are too many", "most", mostLinks)
			conn.Close() //nolint:errcheck,gosec // nothing was said on it
			continue
		}
		x.links.Add(1)
		p.wg.Go(func() {
			defer x.links.Add(-1)
			x.serve(ctx, p, client)
		})
	}
}

// serve passes one connection on, to its end.
func (x *Proxy) serve(ctx context.Context, p *pool, client *net.TCPConn) {
	e, server, err := p.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			x.Log.Debug("a connection finds no API server", "error", err.Error())
		}
		client.Close() //nolint:errcheck,gosec // nothing was said on it
		return
	}
	l := &link{client: client, server: server}
	defer l.close()
	if !p.add(e, l) {
		return
	}
	defer p.drop(e, l)
	l.pass()
}

// link is a client's connection and the one to its API server.
type link struct{ client, server *net.TCPConn }

// close ends both, whatever goes on in them. It may be called again.
func (l *link) close() {
	l.client.Close() //nolint:errcheck,gosec // again, or cut off on purpose
	l.server.Close() //nolint:errcheck,gosec // the same
}

// pass copies both ways until both sides have ended. The kernel moves the
// bytes; they do not come here.
func (l *link) pass() {
	var wg sync.WaitGroup
	wg.Go(func() { l.half(l.server, l.client) })
	l.half(l.client, l.server)
	wg.Wait()
}

// half copies one way. An end is passed on; a failure ends the other way too.
func (l *link) half(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		l.close()
	}
}

// keepAlive finds a peer that went without a word.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// giveUpOnSilence ends a connection whose data is not acknowledged: the kernel
// would try for a quarter of an hour.
func giveUpOnSilence(_, _ string, raw syscall.RawConn) error {
	const silence = 20 * time.Second
	var err error
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
