package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/service"
)

const (
	maxBody = 4 << 20
	// maxWait bounds what a client may have the supervisor wait for.
	maxWait = time.Hour
)

type request struct {
	Names       []string             `json:"names,omitempty"`
	Definitions []service.Definition `json:"definitions,omitempty"`
	Timeout     time.Duration        `json:"timeout,omitempty"`
}

type response struct {
	Error    string              `json:"error,omitempty"`
	Reason   string              `json:"reason,omitempty"` // "unknown": service.ErrUnknown
	Services []service.Status    `json:"services,omitempty"`
	Start    *service.StartError `json:"start,omitempty"` // the error, where it is one
}

// listen makes the socket. Who may connect is given by its mode; who may
// change anything is checked per connection.
func listen(opts Options) (net.Listener, error) {
	path := SocketPath(opts.RunDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen: remove old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	mode := os.FileMode(0o600)
	if opts.Group > 0 {
		mode = 0o660
		err = os.Chown(path, -1, opts.Group)
	}
	if err := errors.Join(err, os.Chmod(path, mode)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
	}
	return l, nil
}

type peerKey struct{}

func (s *supervisor) server() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, response{Services: s.status()}, nil)
	})
	change := func(path string, do func(context.Context, request) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { s.change(w, r, do) })
	}
	change("/v1/apply", func(_ context.Context, q request) error { return s.apply(q.Definitions) })
	change("/v1/remove", func(_ context.Context, q request) error { return s.remove(q.Names) })
	change("/v1/start", func(ctx context.Context, q request) error { return s.start(ctx, q.Names) })
	change("/v1/stop", func(ctx context.Context, q request) error { return s.stop(ctx, q.Names) })
	change("/v1/restart", func(ctx context.Context, q request) error { return s.restart(ctx, q.Names) })
	change("/v1/handover", func(context.Context, request) error {
		s.once.Do(func() { close(s.handover) })
		return nil
	})
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, mayChange(c))
		},
	}
}

// mayChange reports whether the process at the other end is root's, or of the
// user that runs the supervisor.
func mayChange(c net.Conn) bool {
	conn, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	allowed := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		allowed = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return err == nil && allowed
}

func (s *supervisor) change(w http.ResponseWriter, r *http.Request, do func(context.Context, request) error) {
	if ok, _ := r.Context().Value(peerKey{}).(bool); !ok {
		w.WriteHeader(http.StatusForbidden)
		answer(w, response{}, errors.New("only root may change services"))
		return
	}
	var q request
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, response{}, fmt.Errorf("request is not readable: %w", err))
		return
	}
	if q.Timeout <= 0 || q.Timeout > maxWait {
		q.Timeout = maxWait
	}
	ctx, cancel := context.WithTimeout(r.Context(), q.Timeout)
	defer cancel()
	answer(w, response{}, do(ctx, q))
}

func answer(w http.ResponseWriter, a response, err error) {
	if err != nil {
		a.Error = err.Error()
		a.Start, _ = errors.AsType[*service.StartError](err)
		switch {
		case errors.Is(err, service.ErrUnknown):
			a.Reason = "unknown"
		case errors.Is(err, context.DeadlineExceeded):
			a.Reason = "deadline"
		}
	}
	_ = json.NewEncoder(w).Encode(a) // the client went away: nobody to tell
}
