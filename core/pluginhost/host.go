package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
)

const (
	startTimeout    = 10 * time.Second
	maxStartTimeout = 60 * time.Second
	// killTimeout is the longest that an end takes, politeTimeout the part of
	// it in which a plugin may end by itself.
	killTimeout   = 3 * time.Second
	politeTimeout = 2200 * time.Millisecond
)

// Spec is everything that is known of a plugin before it is started.
type Spec struct {
	Identity plugin.Identity
	Dir      string // its folder in the store, root-owned
	Program  string // path of its program, below Dir
	Digest   string // of the program: sha256:…
	UID      int
	Grants   plugin.Grants
	Config   plugin.Configuration
	// StartTimeout and Deadlines (by question: Sign) come from the manifest;
	// zero means the host's own, and the host's own are the longest.
	StartTimeout time.Duration
	Deadlines    map[string]time.Duration
	Env          []string
	// Whole compares all of Dir with what was installed. It is asked before a
	// script is started, which loads more than its program; nil for never.
	Whole func() error `json:"-"`
	// Trial starts it without callbacks: nobody has agreed to its grants yet.
	Trial bool
}

// Options are what a Host needs to start plugins.
type Options struct {
	// RunDir is where sockets lie: short, and only root may write there.
	RunDir string
	Log    hclog.Logger
	// Answer gives the host that a plugin may call back; nil for none. What
	// is asked of the plugin meanwhile tells what it may ask itself.
	Answer func(Spec, *Questions) host.Host
	// Isolate gives each plugin its own user and namespaces. Only authors'
	// tools leave it out, and say so.
	Isolate bool
}

// Host starts plugins. It owns those that it started until Close.
type Host struct {
	options Options
	sweep   sync.Once

	mu      sync.Mutex
	running map[*Plugin]struct{}
	closed  bool
}

// New makes a host. It starts nothing.
func New(o Options) *Host {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	return &Host{options: o, running: map[*Plugin]struct{}{}}
}

// Plugin is one running process. It is single-use: once its process is gone
// every question fails, and a new one must be started.
type Plugin struct {
	Spec
	*client.Client
	gone     chan struct{}
	log      *logger
	process  *goplugin.Client
	runner   *processRunner
	dir      string
	asked    Questions
	answers  *grpc.Server
	stopOnce sync.Once
	stop     error
}

// ErrClosed says that the host was closed before a plugin had started.
var ErrClosed = errors.New("the plugin host is closed")

// Start starts a plugin in its cell, checks that it is what its manifest says,
// and configures it. On an error nothing of it is left. The first start also
// removes what hosts left that were killed.
func (h *Host) Start(ctx context.Context, s Spec) (*Plugin, error) {
	h.sweep.Do(func() {
		if err := Sweep(h.options.RunDir); err != nil {
			h.options.Log.Warn("cannot remove what another run left", "error", err.Error())
		}
	})
	p, err := h.start(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", s.Identity, s.Identity.Version, err)
	}
	if !h.keep(p) {
		return nil, errors.Join(ErrClosed, p.Close())
	}
	go h.forget(p)
	return p, nil
}

func (h *Host) keep(p *Plugin) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running[p] = struct{}{}
	return true
}

// forget cleans up after a process that has ended, by itself or not.
func (h *Host) forget(p *Plugin) {
	<-p.gone
	if err := p.Close(); err != nil {
		h.options.Log.Warn("cannot clean up after a plugin", "plugin", p.Identity.String(), "error", err.Error())
	}
	h.mu.Lock()
	delete(h.running, p)
	h.mu.Unlock()
}

func (h *Host) start(ctx context.Context, s Spec) (*Plugin, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start: %w", context.Cause(ctx))
	}
	if h.options.Isolate && s.UID <= 0 {
		return nil, fmt.Errorf("it has no user of its own (user %d)", s.UID)
	}
	program, path, err := openProgram(s, h.receipts())
	if err != nil {
		return nil, err
	}
	s.Program = path
	dir, err := runFolder(h.options.RunDir, h.uid(s))
	if err != nil {
		return nil, errors.Join(err, closeFile(program))
	}
	p := &Plugin{Spec: s, dir: dir, gone: make(chan struct{}), log: newLogger(h.options.Log.Named(s.Identity.String()))}
	if err := h.launch(ctx, p, program); err != nil {
		stopped := p.Close() // before explaining: now the whole log has been read
		return nil, errors.Join(p.explain(err), stopped)
	}
	go func() {
		<-p.runner.drained
		close(p.gone)
	}()
	return p, nil
}

// receipts lie beside the sockets. Without isolation there are none: a plugin
// that runs as the caller could write its own.
func (h *Host) receipts() *receipts {
	if !h.options.Isolate || os.Geteuid() != 0 {
		return nil
	}
	return &receipts{dir: filepath.Join(filepath.Dir(h.options.RunDir), "compared")}
}

func (h *Host) uid(s Spec) int {
	if h.options.Isolate {
		return s.UID
	}
	return -1
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// Close ends all plugins, at once, within killTimeout. Starts that are under
// way end with ErrClosed.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	running := make([]*Plugin, 0, len(h.running))
	for p := range h.running {
		running = append(running, p)
	}
	h.mu.Unlock()
	errs := make([]error, len(running))
	var wg sync.WaitGroup
	for i, p := range running {
		wg.Go(func() { errs[i] = p.Close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
