package datastore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"mk8s.io/mk/core/datastore/etcd"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/timer"
)

// Credentials are the node's for its datastore: the pair that etcd takes from
// the API server, and who signed etcd's own.
func Credentials(root *node.Root) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(root.Certs("apiserver-etcd-client.crt"), root.Certs("apiserver-etcd-client.key"))
	if err != nil {
		return nil, fmt.Errorf("read what the datastore knows this node by: %w", err)
	}
	trust := root.Certs("datastore-ca.crt")
	ca, err := os.ReadFile(trust)
	if err != nil {
		return nil, fmt.Errorf("read whom this node knows the datastore by: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", trust)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool}, nil
}

// Options say where the datastore is.
type Options struct {
	Endpoints []string    // client addresses, https://host:port; this node's own first
	TLS       *tls.Config // nil for http endpoints
}

// Client asks one member after the other. It connects to none before it is
// needed. It may be used by several goroutines.
type Client struct {
	tls *tls.Config

	mu        sync.Mutex
	endpoints []string
	clients   map[string]*etcd.Conn
	answered  map[uint64]string // where members answered last
}

// New makes a client. Close ends its connections.
func New(o Options) *Client {
	return &Client{tls: o.TLS, endpoints: slices.Clone(o.Endpoints), clients: map[string]*etcd.Conn{}, answered: map[uint64]string{}}
}

// Close ends all connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, e := range c.clients {
		if err := e.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	c.clients = map[string]*etcd.Conn{}
	return errors.Join(errs...)
}

// attempt is how long one member has for one answer: longer than an election.
const attempt = 4 * time.Second

// at is the connection to one member.
func (c *Client) at(endpoint string) (*etcd.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.clients[endpoint]; ok {
		return e, nil
	}
	e, err := etcd.Dial(endpoint, c.tls)
	if err != nil {
		return nil, fmt.Errorf("connect to the datastore at %s: %w", endpoint, err)
	}
	c.clients[endpoint] = e
	return e, nil
}

// known are the endpoints to try, the node's own first.
func (c *Client) known() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.endpoints)
}

// met remembers where a member answered.
func (c *Client) met(id uint64, endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered[id] = endpoint
}

// where a member answered, so that it is not connected to twice; else where it says that it does.
func (c *Client) where(m *Member) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if endpoint, ok := c.answered[m.id]; ok {
		return endpoint
	}
	return m.ClientAddress
}

// askLast has all others asked before a member that is about to go: the leader
// leaves it alone at once, so that it may never hear that it has gone, and lets
// whoever asks it wait.
func (c *Client) askLast(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	goes := func(endpoint string) bool { return endpoint == m.ClientAddress || endpoint == c.answered[m.id] }
	slices.SortStableFunc(c.endpoints, func(a, b string) int {
		switch {
		case goes(a) == goes(b):
			return 0
		case goes(a):
			return 1
		default:
			return -1
		}
	})
}

// learn remembers where members are reached, for when the first ones go.
func (c *Client) learn(members []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range members {
		if m.ClientAddress != "" && !slices.Contains(c.endpoints, m.ClientAddress) {
			c.endpoints = append(c.endpoints, m.ClientAddress)
		}
	}
}

// ask puts a question to one member after the other until one answers. What
// only etcd can know ends the search: the others would say the same.
func (c *Client) ask(ctx context.Context, question func(context.Context, *etcd.Conn) error) error {
	var last error
	for _, endpoint := range c.known() {
		e, err := c.at(endpoint)
		if err != nil {
			return err
		}
		one, cancel := context.WithTimeout(ctx, attempt)
		err = question(one, e)
		cancel()
		if err == nil || conclusive(err) {
			return err
		}
		last = fmt.Errorf("%s: %w", endpoint, err)
		if ctx.Err() != nil {
			break
		}
	}
	if last == nil {
		last = errors.New("no member's address is known")
	}
	return last
}

// conclusive reports whether every member would give this answer, now and
// later: it is about what was asked, not about who was asked.
func conclusive(err error) bool {
	return slices.ContainsFunc([]error{
		rpctypes.ErrMemberExist, rpctypes.ErrPeerURLExist, rpctypes.ErrMemberNotFound, rpctypes.ErrMemberNotLearner,
		rpctypes.ErrMemberBadURLs, rpctypes.ErrTooManyLearners, rpctypes.ErrPermissionDenied,
	}, func(e error) bool { return errors.Is(err, e) })
}

// pause waits before the next try.
func pause(ctx context.Context, d time.Duration) error {
	if !timer.Wait(ctx, d) {
		return ctx.Err()
	}
	return nil
}
