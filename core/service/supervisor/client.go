package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
	"mk8s.io/mk/core/timer"
)

var (
	_ service.Controller = (*Client)(nil)
	_ service.Remover    = (*Client)(nil)
)

// reserve is kept of the caller's time for the answer to arrive.
const reserve = 200 * time.Millisecond

// How often, and after what pause, one that hung up is asked again.
const (
	maxTries = 50
	tryPause = 20 * time.Millisecond
)

// Client speaks to the supervisor of a folder. It keeps no connection.
// Without a supervisor its methods return service.ErrNotRunning.
type Client struct{ socket string }

// NewClient returns the client for the supervisor that serves runDir.
func NewClient(runDir string) *Client { return &Client{socket: SocketPath(runDir)} }

// Apply implements service.Controller.
func (c *Client) Apply(ctx context.Context, defs []service.Definition) error {
	if err := service.ValidateAll(defs); err != nil {
		return err
	}
	return c.change(ctx, "/v1/apply", request{Definitions: defs})
}

// Start implements service.Controller.
func (c *Client) Start(ctx context.Context, names ...string) error {
	return c.change(ctx, "/v1/start", request{Names: names})
}

// Stop implements service.Controller.
func (c *Client) Stop(ctx context.Context, names ...string) error {
	return c.change(ctx, "/v1/stop", request{Names: names})
}

// Restart implements service.Controller.
func (c *Client) Restart(ctx context.Context, names ...string) error {
	return c.change(ctx, "/v1/restart", request{Names: names})
}

// Remove implements service.Remover.
func (c *Client) Remove(ctx context.Context, names ...string) error {
	return c.change(ctx, "/v1/remove", request{Names: names})
}

// Handover ends the supervisor and leaves the services running, for the next
// supervisor to take over. It returns before the supervisor has ended.
func (c *Client) Handover(ctx context.Context) error {
	return c.change(ctx, "/v1/handover", request{})
}

// Process is the supervisor's own, to be waited for: it ends a while after it
// has let go of its socket. Close it when done.
func (c *Client) Process(ctx context.Context) (*process.Process, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: nobody listens on %s", service.ErrNotRunning, c.socket)
	}
	if err != nil {
		return nil, fmt.Errorf("ask supervisor: %w", err)
	}
	defer conn.Close() //nolint:errcheck // only asked whose it is
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask supervisor: %w", err)
	}
	var cred *unix.Ucred // of who listens
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("ask supervisor: %w", err)
	}
	id, err := process.Identify(int(cred.Pid))
	if err != nil {
		return nil, err
	}
	return process.Open(id)
}

// Status implements service.Controller. A supervisor that dies while it is
// asked is asked again: by then it is gone, or its successor answers.
func (c *Client) Status(ctx context.Context) ([]service.Status, error) {
	for try := 0; ; try++ {
		a, err := c.call(ctx, http.MethodGet, "/v1/status", nil)
		if try >= maxTries || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			return a.Services, err
		}
		if !timer.Wait(ctx, tryPause) {
			return nil, fmt.Errorf("ask supervisor: %w", ctx.Err())
		}
	}
}

func (c *Client) change(ctx context.Context, path string, q request) error {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		q.Timeout = max(left-min(reserve, left/4), time.Nanosecond)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("ask supervisor: %w", err)
	}
	_, err = c.call(ctx, http.MethodPost, path, body)
	return err
}

func (c *Client) call(ctx context.Context, method, path string, body []byte) (response, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, bytes.NewReader(body))
	if err != nil {
		return response{}, fmt.Errorf("ask supervisor: %w", err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return response{}, fmt.Errorf("%w: nobody listens on %s", service.ErrNotRunning, c.socket)
	}
	if err != nil {
		return response{}, fmt.Errorf("ask supervisor: %w", err)
	}
	defer res.Body.Close()
	var a response
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&a); err != nil {
		return response{}, fmt.Errorf("answer of supervisor (%s) is not readable: %w", res.Status, err)
	}
	return a, a.err()
}

// err makes an error again of what the supervisor wrote, with the sentinels
// and types that callers ask for.
func (a response) err() error {
	if a.Error == "" {
		return nil
	}
	var kind error
	switch a.Reason {
	case "unknown":
		kind = service.ErrUnknown
	case "deadline":
		kind = context.DeadlineExceeded
	}
	if a.Start != nil {
		a.Start.Err, kind = kind, a.Start
	}
	return &remoteError{a.Error, kind}
}

type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }
