package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"mk8s.io/mk/core/peer"
)

// hearLimit is how long a datagram may be on its way after the answer.
const hearLimit = time.Second

// ears listen where a node will, for the time of a preflight: who connects is
// told the nonce, and of datagrams it is kept how large they were.
type ears struct {
	nonce     []byte
	listeners []net.Listener
	packets   map[int]net.PacketConn
	group     sync.WaitGroup

	mu      sync.Mutex
	largest map[int]int
	came    chan struct{} // holds one while something has come since it was looked at
}

// listen opens all ports of a check. A UDP port that somebody has is left out.
func listen(ctx context.Context, c peer.Check) (*ears, error) {
	e := &ears{nonce: c.Nonce, packets: map[int]net.PacketConn{}, largest: map[int]int{}, came: make(chan struct{}, 1)}
	config := &net.ListenConfig{}
	for _, port := range c.Ports {
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err != nil {
			e.close()
			return nil, fmt.Errorf("listen for the server: %w", err)
		}
		e.listeners = append(e.listeners, l)
		e.group.Go(func() { e.accept(l) })
	}
	for _, port := range c.UDP {
		p, err := config.ListenPacket(ctx, "udp", net.JoinHostPort("", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		e.packets[port] = p
		e.group.Go(func() { e.receive(port, p) })
	}
	return e, nil
}

func (e *ears) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		_ = c.SetWriteDeadline(time.Now().Add(dialLimit)) // a few bytes, which the kernel takes at once
		_, _ = c.Write(e.nonce)
		_ = c.Close()
	}
}

func (e *ears) receive(port int, p net.PacketConn) {
	data := make([]byte, 64<<10)
	for {
		size, _, err := p.ReadFrom(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !bytes.HasPrefix(data[:size], e.nonce) {
			continue
		}
		e.mu.Lock()
		e.largest[port] = max(e.largest[port], size)
		e.mu.Unlock()
		select {
		case e.came <- struct{}{}:
		default: // it is known
		}
	}
}

// hears says whether datagrams to a port can come here.
func (e *ears) hears(port int) bool { return e.packets[port] != nil }

// wait waits for a datagram that is full bytes long, and says what has come.
func (e *ears) wait(ctx context.Context, port, full int) (small, large bool) {
	if !e.hears(port) {
		return false, false
	}
	ctx, cancel := context.WithTimeout(ctx, hearLimit)
	defer cancel()
	for {
		e.mu.Lock()
		largest := e.largest[port]
		e.mu.Unlock()
		small, large = largest > 0, largest > 0 && largest >= full
		if large {
			return small, large
		}
		select {
		case <-e.came:
		case <-ctx.Done():
			return small, large
		}
	}
}

func (e *ears) close() {
	for _, l := range e.listeners {
		_ = l.Close() // nobody needs it any more
	}
	for _, p := range e.packets {
		_ = p.Close()
	}
	e.group.Wait()
}
