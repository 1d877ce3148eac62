// Package peer is how one node's mk speaks to another's agent: HTTPS with a
// pinned key, JSON of at most a few KiB, and errors whose reasons survive.
//
// Guaranteed: nothing is sent before the other side's key was found to be the
// pinned one, or its certificate to be of the cluster's authority; every call
// ends with its context; an answer that is too large is refused. It keeps
// nothing and decides nothing.
package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mk8s.io/mk/core/timer"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// maxAnswer bounds what another node may answer to a call.
	maxAnswer = 16 << 20
	// maxBodyOfProblem bounds what it may say of why it did not take something.
	maxBodyOfProblem = 64 << 10
	dialLimit        = 5 * time.Second
	callLimit        = 2 * time.Minute
	repeatAfter      = 500 * time.Millisecond
	// busyPatience is how long anyone is asked again who says when to.
	busyPatience = time.Minute
	// mostAfter is the longest that is waited where a server says how long.
	mostAfter = 10 * time.Second
	// maxAnswerLine bounds a line of an answer that comes as lines.
	maxAnswerLine = 512 << 10
	// A server that works on something answers a ping all the same; one whose
	// process hangs does not, and is found out long before callLimit.
	pingAfter = 10 * time.Second
	pingLimit = 5 * time.Second
)

// Reasons that only this package's errors have.
const (
	// WrongServer says that someone else answers at the address.
	WrongServer plugin.Reason = "WRONG_SERVER"
	// Unreachable says that nobody answers there.
	Unreachable plugin.Reason = "UNREACHABLE"
	// TooOften and Busy say that the other side has no time yet.
	TooOften plugin.Reason = "TOO_OFTEN"
	Busy     plugin.Reason = "BUSY"
	// NotNow says that what the other side asks in turn, its API server or its
	// datastore, does not answer: one of them may start again, or choose a leader.
	NotNow plugin.Reason = "NOT_NOW"
)

// Options say whom to trust and who asks. One of Fingerprint, Roots and
// Insecure must be set.
type Options struct {
	Fingerprint string         // SHA-256 of the server's key, hexadecimal
	Roots       *x509.CertPool // authorities of the server's certificate
	Insecure    bool           // take whoever answers
	Client      *tls.Certificate
	// Dial connects; nil means over the network as it is here.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Patience is how long a server that was met before, or what it asks in turn,
	// may be silent: it may start again. Requests are repeated meanwhile, so they
	// must be ones that can be. Waiting hears why.
	Patience time.Duration
	Met      bool // by an earlier process
	// Once is for a single call: the connection is good for no other, and costs
	// less.
	Once    bool
	Waiting func(error)
}

// Client speaks to one agent.
type Client struct {
	base     string
	http     *http.Client
	met      atomic.Bool // a connection came about, and so may have what was sent
	patience time.Duration
	waiting  func(error)
}

// New prepares a client of the agent at host:port. It does not dial.
func New(address string, o Options) *Client {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: o.Roots}
	if o.Client != nil {
		config.Certificates = []tls.Certificate{*o.Client}
	}
	if o.Roots == nil {
		// The key is pinned: it says more than a name in a certificate.
		config.InsecureSkipVerify = true //nolint:gosec // verified below, or --skip-verify was asked for
		config.VerifyConnection = func(s tls.ConnectionState) error { return o.verify(address, s) }
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialLimit}).DialContext
	}
	c := &Client{base: "https://" + address, patience: o.Patience, waiting: o.Waiting, http: &http.Client{
		Timeout: callLimit,
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: config, TLSHandshakeTimeout: dialLimit, ForceAttemptHTTP2: !o.Once, DisableKeepAlives: o.Once,
			MaxIdleConns: 2, IdleConnTimeout: time.Minute,
			HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingLimit},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("an agent redirects nobody") },
	}}
	c.met.Store(o.Met)
	return c
}

// WrongServerError says whose key was expected and whose was found.
type WrongServerError struct{ Address, Got, Want string }

// Error names both.
func (e *WrongServerError) Error() string {
	return fmt.Sprintf("%s is not the server of this connection string: its key is %s, the string says %s", e.Address, e.Got, e.Want)
}

// Is makes it findable by its reason.
func (e *WrongServerError) Is(target error) bool { return target == WrongServer }

func (o Options) verify(address string, s tls.ConnectionState) error {
	if o.Insecure {
		return nil
	}
	if len(s.PeerCertificates) == 0 {
		return &WrongServerError{Address: address, Got: "absent", Want: o.Fingerprint}
	}
	leaf := s.PeerCertificates[0]
	got, want := Fingerprint(leaf), strings.ToLower(o.Fingerprint)
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1 {
		return nil
	}
	return &WrongServerError{Address: address, Got: got, Want: want}
}

// Fingerprint names a certificate's key: the SHA-256 of its
// SubjectPublicKeyInfo, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Met reports whether the server may have got anything.
func (c *Client) Met() bool { return c.met.Load() }

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call sends one request and decodes its answer. An answer that is an error is
// a *plugin.Error with the other side's reason.
func (c *Client) Call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.base+path, err)
	}
	answer, err := c.Raw(ctx, Request{Method: http.MethodPost, Path: path, Body: body})
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return answer.asError(c.base + path)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base+path, err)
	}
	return nil
}

// Request is an HTTP request to an agent.
type Request struct {
	Method  string
	Path    string
	Headers map[string]string
	Body    []byte
	Max     int64 // of the answer; 0 means 16 MiB
}

// Answer is an agent's answer.
type Answer struct {
	Status  int
	Headers map[string]string
	Body    []byte
}

// Raw sends a request as it is, and again while a server that was met is
// silent and there is patience, or one has no time yet and says when.
func (c *Client) Raw(ctx context.Context, r Request) (*Answer, error) {
	for began := time.Now(); ; {
		a, err := c.once(ctx, r)
		after, why := c.again(a, err)
		patience := c.patience
		if err == nil && !errors.Is(why, NotNow) {
			patience = max(patience, busyPatience)
		}
		if after == 0 || time.Since(began) > patience {
			return a, err
		}
		if c.waiting != nil {
			c.waiting(why)
		}
		if !timer.Wait(ctx, after) {
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, fmt.Errorf("ask %s: %w", c.base+r.Path, context.Cause(ctx))
			}
			return a, err
		}
	}
}

// again says after how long something is sent again, and why; zero is never.
func (c *Client) again(a *Answer, err error) (time.Duration, error) {
	if err != nil {
		if errors.Is(err, Unreachable) && c.Met() {
			return repeatAfter, err
		}
		return 0, nil
	}
	if a.Status != http.StatusTooManyRequests && a.Status != http.StatusServiceUnavailable {
		return 0, nil
	}
	seconds, err := strconv.Atoi(a.Headers["Retry-After"])
	if err != nil || seconds < 1 {
		return 0, nil // it is for whoever asked
	}
	return min(time.Duration(seconds)*time.Second, mostAfter), a.asError(c.base)
}

func (c *Client) once(ctx context.Context, r Request) (*Answer, error) {
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { c.met.Store(true) }}
	ctx = httptrace.WithClientTrace(ctx, trace)
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base+r.Path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range r.Headers {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if wrong, ok := errors.AsType[*WrongServerError](err); ok {
			return nil, wrong
		}
		if errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled) {
			return nil, fmt.Errorf("ask %s: %w", c.base+r.Path, context.Cause(ctx))
		}
		return nil, &plugin.Error{Reason: Unreachable, Message: fmt.Sprintf("%s does not answer: %v", c.base, cause(err))}
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	limit := r.Max
	if limit == 0 {
		limit = maxAnswer
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, &plugin.Error{Reason: Unreachable, Message: fmt.Sprintf("the answer of %s broke off: %v", c.base, cause(err))}
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("the answer of %s is larger than %d bytes", c.base+r.Path, limit)
	}
	out := &Answer{Status: resp.StatusCode, Body: data, Headers: map[string]string{}}
	for k := range resp.Header {
		out.Headers[k] = resp.Header.Get(k)
	}
	return out, nil
}

// cause drops the URL that net/http puts in front: the message has it.
func cause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Problem is the body of an answer that is an error.
type Problem struct {
	Error ProblemText `json:"error"`
}

// ProblemText is what went wrong on the other side.
type ProblemText struct {
	Reason  plugin.Reason `json:"reason"`
	Message string        `json:"message"`
	Next    string        `json:"next,omitempty"`
}

const maxMessage = 2000

func (a *Answer) asError(where string) error {
	var p Problem
	if err := json.Unmarshal(a.Body, &p); err != nil || p.Error.Reason == "" {
		return fmt.Errorf("%s answers %d", where, a.Status)
	}
	return &plugin.Error{Reason: p.Error.Reason, Message: clip(p.Error.Message), Next: clip(p.Error.Next)}
}

// clip keeps what another machine says from filling the terminal.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxMessage)], "?") }
