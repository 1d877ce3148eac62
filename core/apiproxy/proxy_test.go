package apiproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// quick is usual with short waits.
func quick() *timing {
	return &timing{
		dial: 2 * time.Second, hedge: 50 * time.Millisecond, every: 20 * time.Millisecond, check: 200 * time.Millisecond,
		first: 5 * time.Millisecond, most: 20 * time.Millisecond, drain: 200 * time.Millisecond, accept: time.Millisecond,
	}
}

// backend is a TCP server that says its name and then echoes.
type backend struct {
	name string
	addr netip.AddrPort

	mu     sync.Mutex
	listen net.Listener
	conns  []net.Conn
	refuse error // the answer to checks
	frozen bool  // checks are not answered
	asked  int   // checks since the answer changed
}

func newBackend(t *testing.T, name string) *backend {
	t.Helper()
	b := &backend{name: name, addr: netip.MustParseAddrPort("127.0.0.1:0")}
	b.start(t)
	t.Cleanup(b.stop)
	return b
}

func (b *backend) start(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", b.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listen, b.addr = l, netip.MustParseAddrPort(l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			go func() {
				defer conn.Close() //nolint:errcheck // a test's end
				if _, err := io.WriteString(conn, b.name); err == nil {
					_, _ = io.Copy(conn, conn)
				}
			}()
		}
	}()
}

// stop ends it as kill -9 would.
func (b *backend) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.listen.Close()
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

func (b *backend) answer(refuse error, frozen bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse, b.frozen, b.asked = refuse, frozen, 0
}

func (b *backend) checks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// rig is a proxy that runs.
type rig struct {
	t     *testing.T
	addr  string
	see   chan []netip.AddrPort
	end   context.CancelFunc
	ended chan error

	mu   sync.Mutex
	kept [][]netip.AddrPort
}

func run(t *testing.T, backends ...*backend) *rig {
	t.Helper()
	return runAt(t, addresses(backends...), func(ctx context.Context, addr netip.AddrPort) error {
		for _, b := range backends {
			b.mu.Lock()
			same, frozen, refuse := b.addr == addr, b.frozen, b.refuse
			if same {
				b.asked++
			}
			b.mu.Unlock()
			if same && frozen {
				<-ctx.Done()
				return ctx.Err()
			}
			if same && refuse != nil {
				return refuse
			}
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func addresses(backends ...*backend) []netip.AddrPort {
	var list []netip.AddrPort
	for _, b := range backends {
		list = append(list, b.addr)
	}
	return list
}

func runAt(t *testing.T, list []netip.AddrPort, check func(context.Context, netip.AddrPort) error) *rig {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, addr: l.Addr().String(), see: make(chan []netip.AddrPort), ended: make(chan error, 1)}
	x := &Proxy{
		Listener: l, Endpoints: list, Check: check, Log: hclog.NewNullLogger(), timing: quick(),
		Keep: func(list []netip.AddrPort) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.kept = append(r.kept, list)
			return nil
		},
		Follow: func(ctx context.Context, see func([]netip.AddrPort)) error {
			for {
				select {
				case list := <-r.see:
					see(list)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	}
	var ctx context.Context
	ctx, r.end = context.WithCancel(t.Context())
	go func() { r.ended <- x.Run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) stop() {
	r.end()
	select {
	case err, first := <-r.ended:
		if first && err != nil {
			r.t.Errorf("Run = %v, want no error at its end", err)
		}
		if first {
			close(r.ended)
		}
	case <-time.After(10 * time.Second):
		r.t.Error("the proxy did not end with its context")
	}
}

// become is a new list, taken over.
func (r *rig) become(list ...netip.AddrPort) {
	r.t.Helper()
	for range 2 { // the second one is taken when the first is through
		select {
		case r.see <- list:
		case <-time.After(10 * time.Second):
			r.t.Fatal("the list is not taken")
		}
	}
}

// connect answers a connection and whose it is.
func (r *rig) connect() (net.Conn, string) {
	r.t.Helper()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(r.t.Context(), "tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	name := make([]byte, 1)
	if _, err := io.ReadFull(conn, name); err != nil {
		return conn, ""
	}
	return conn, string(name)
}

// until connects until the name is as wanted.
func (r *rig) until(what string, want func(name string) bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		conn, name := r.connect()
		_ = conn.Close()
		if want(name) {
			return
		}
	}
	r.t.Fatalf("never: %s", what)
}

func echo(t *testing.T, conn net.Conn, text string) error {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(conn, back); err != nil {
		return err
	}
	if string(back) != text {
		t.Errorf("%q came back as %q", text, back)
	}
	return nil
}

func TestPassesBothWaysAndEnds(t *testing.T) {
	t.Parallel()
	r := run(t, newBackend(t, "a"))
	conn, name := r.connect()
	if name != "a" {
		t.Fatalf("connected to %q", name)
	}
	big := string(make([]byte, 1<<20))
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, big)
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(conn) // ends, because the half-close went all the way round
	if err = errors.Join(err, <-sent); err != nil || len(got) != len(big) {
		t.Fatalf("%d of %d bytes came back: %v", len(got), len(big), err)
	}
}

func TestSpreadsOverAll(t *testing.T) {
	t.Parallel()
	r := run(t, newBackend(t, "a"), newBackend(t, "b"), newBackend(t, "c"))
	count := map[string]int{}
	for range 9 {
		_, name := r.connect()
		count[name]++
	}
	if count["a"] != 3 || count["b"] != 3 || count["c"] != 3 {
		t.Fatalf("nine open connections went to %v, want three each", count)
	}
}

func TestOneThatRefusesIsSkippedAndComesBack(t *testing.T) {
	t.Parallel()
	a, b := newBackend(t, "a"), newBackend(t, "b")
	r := run(t, a, b)
	_, _ = r.connect()
	a.stop()
	for range 20 {
		if conn, name := r.connect(); name != "b" {
			t.Fatalf("a connection went to %q while only b is there", name)
		} else if err := echo(t, conn, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	a.start(t)
	r.until("a gets connections again", func(name string) bool { return name == "a" })
}

func TestAllDownIsNotForever(t *testing.T) {
	t.Parallel()
	a := newBackend(t, "a")
	r := run(t, a)
	a.stop()
	r.until("no connection is passed on", func(name string) bool { return name == "" })
	a.start(t)
	r.until("a gets connections again", func(name string) bool { return name == "a" })
}

// TestOneThatSwallowsConnectionsCostsLittle: a queue that is full is a machine
// that drops packets.
func TestOneThatSwallowsConnectionsCostsLittle(t *testing.T) {
	t.Parallel()
	hole := blackHole(t)
	b := newBackend(t, "b")
	r := runAt(t, []netip.AddrPort{hole, b.addr}, func(context.Context, netip.AddrPort) error { return nil })
	for range 4 {
		begun := time.Now()
		if _, name := r.connect(); name != "b" {
			t.Fatalf("connected to %q", name)
		}
		if took := time.Since(begun); took > quick().dial/2 {
			t.Errorf("a connection took %s while one of two servers works", took)
		}
	}
}

func blackHole(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		t.Fatal("not an IPv4 address")
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
	for range 4 { // fill the queue until nobody is let in
		conn, err := net.DialTimeout("tcp", addr.String(), 300*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue does not fill")
	return addr
}

func TestOneThatHangsLosesItsConnections(t *testing.T) {
	t.Parallel()
	a, b := newBackend(t, "a"), newBackend(t, "b")
	r := run(t, a, b)
	var conn net.Conn
	r.until("connected to a", func(string) bool {
		c, name := r.connect()
		conn = c
		return name == "a"
	})
	a.answer(nil, true) // it accepts, and answers nothing
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("reading from a connection to a server that hangs: %v, want its end", err)
	}
	for range 5 {
		if _, name := r.connect(); name != "b" {
			t.Fatalf("connected to %q", name)
		}
	}
}

func TestOneThatStaysNotReadyIsLeft(t *testing.T) {
	t.Parallel()
	a, b := newBackend(t, "a"), newBackend(t, "b")
	r := run(t, a, b)
	var conn net.Conn
	r.until("connected to a", func(string) bool {
		c, name := r.connect()
		conn = c
		return name == "a"
	})
	a.answer(ErrNotReady, false)
	b.answer(ErrNotReady, false)
	for a.checks() < 2*stays {
		if err := echo(t, conn, "still here"); err != nil { // there is no other
			t.Fatalf("the connection to a server that is not ready: %v", err)
		}
	}
	b.answer(nil, false)
	row := 0
	r.until("only b gets connections", func(name string) bool {
		if row++; name != "b" {
			row = 0
		}
		return row == 10
	})
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("reading from a connection to a server that stays not ready: %v, want its end", err)
	}
}

func TestFollowsTheList(t *testing.T) {
	t.Parallel()
	a, b, c := newBackend(t, "a"), newBackend(t, "b"), newBackend(t, "c")
	r := run(t, a, b)
	conns := map[string]net.Conn{}
	for range 2 {
		conn, name := r.connect()
		conns[name] = conn
	}
	r.become() // nobody believes that
	r.become(b.addr, c.addr)
	for range 10 {
		if _, name := r.connect(); name == "a" || name == "" {
			t.Fatalf("a new connection went to %q, which was removed", name)
		}
	}
	if err := echo(t, conns["b"], "stays"); err != nil {
		t.Fatalf("the connection to one that stays: %v", err)
	}
	if _, err := io.ReadAll(conns["a"]); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("the connection to one that was removed: %v, want its end", err)
	}
	if err := echo(t, conns["b"], "stays"); err != nil {
		t.Fatalf("the connection to one that stays: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) != 1 || !slices.Equal(r.kept[0], addresses(b, c)) {
		t.Fatalf("kept %v, want the one new list", r.kept)
	}
}

func TestOneThatIsBackInTimeKeepsItsConnections(t *testing.T) {
	t.Parallel()
	a, b := newBackend(t, "a"), newBackend(t, "b")
	r := run(t, a, b)
	var conn net.Conn
	r.until("connected to a", func(string) bool {
		c, name := r.connect()
		conn = c
		return name == "a"
	})
	r.become(b.addr)
	r.become(a.addr, b.addr)
	// Longer than connections to a removed one have: another that is removed
	// for good says when that is over.
	other, name := r.connect()
	for name != "b" {
		other, name = r.connect()
	}
	r.become(a.addr)
	if _, err := io.ReadAll(other); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	if err := echo(t, conn, "still here"); err != nil {
		t.Fatalf("the connection to one that came back: %v", err)
	}
}

func TestEndsWithOpenConnections(t *testing.T) {
	t.Parallel()
	r := run(t, newBackend(t, "a"))
	conn, _ := r.connect()
	r.stop()
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("an open connection: %v, want its end", err)
	}
}
