// Package supervisor keeps a node's services up on a machine that systemd
// does not run.
//
// Run is the supervisor, in a process of its own for the life of the node;
// Client, a service.Controller, speaks to it over a unix socket; Spawn starts
// it. Services are sessions of their own that write their own logs, so they
// live on when the supervisor is killed; the next one takes them over without
// a restart, or replaces what it finds ended. Which services are defined and
// wanted is in a file that is written before anything is done.
//
// Not guaranteed: that programs which a service moved into other sessions end
// with it (the supervisor has no cgroups of its own; see process.KillCgroup),
// and the exit status of a service that was taken over, which is said.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/timer"
)

// ErrRunning is returned by Run when another supervisor serves the folder.
var ErrRunning = errors.New("another supervisor runs")

// Options configures Run.
type Options struct {
	RunDir    string       // holds supervisor.sock and supervisor.lock; made with 0755
	StateFile string       // definitions, what is wanted, process numbers; its folder is made with 0700
	LogDir    string       // <service>.log each
	Group     int          // may ask for the status besides root; 0 for none
	Logger    *slog.Logger // required
	Logs      logfile.Limits

	BackoffMin   time.Duration // pause before the first restart, doubling; default 1 s
	BackoffMax   time.Duration // longest pause; default 60 s
	BackoffReset time.Duration // up that long, the pause begins anew; default 2 min
}

type config struct {
	Options
	launcher launcher
}

// SocketPath is where a supervisor of runDir listens.
func SocketPath(runDir string) string { return filepath.Join(runDir, "supervisor.sock") }

// Supervisor is the running supervisor.
type supervisor struct {
	conf *config
	life context.Context // of the units' loops; ended by Run

	mu    sync.Mutex // guards units
	units map[string]*unit

	saving   sync.Mutex // one writer of the state file at a time
	handover chan struct{}
	once     sync.Once
}

// Run serves until ctx ends or a client hands over. When ctx ends, all
// services are stopped in order, bounded by their timeouts, and stay wanted:
// the next supervisor starts them. After a handover they run on. Run must not
// be called twice at a time for one folder: ErrRunning.
func Run(ctx context.Context, opts Options) error {
	opts.setDefaults()
	if err := keepFiles(); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{opts.RunDir: 0o755, filepath.Dir(opts.StateFile): 0o700, opts.LogDir: 0o750} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("start supervisor: %w", err)
		}
	}
	lock, err := takeLock(ctx, opts.RunDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	records, err := loadState(opts.StateFile)
	if err != nil {
		return err
	}
	listener, err := listen(opts)
	if err != nil {
		return err
	}

	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &supervisor{conf: &config{Options: opts}, life: life, units: map[string]*unit{}, handover: make(chan struct{})}
	for _, r := range records {
		s.units[r.Definition.Name] = newUnit(s.conf, r, s.noteSaved)
	}
	work, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() {
		logfile.Watch(work, opts.LogDir, opts.Logs, func(err error) { opts.Logger.Warn("log not rotated", "err", err) })
	})
	if os.Getpid() == 1 {
		background.Go(func() { reapOrphans(work, s.children) })
	}
	s.resume(ctx)
	background.Go(func() { s.bringUp(work) })

	server := s.server()
	failed := make(chan error, 1)
	background.Go(func() { failed <- server.Serve(listener) })
	select {
	case <-ctx.Done():
	case <-s.handover:
	case err = <-failed:
		err = fmt.Errorf("serve supervisor: %w", err)
	}
	cancel()
	err = errors.Join(err, s.shutDown(ctx, server, end))
	background.Wait()
	return err
}

// shutDown ends the server, then the services, or leaves them.
func (s *supervisor) shutDown(ctx context.Context, server *http.Server, end context.CancelCauseFunc) error {
	// Answers in progress get a moment; their waiting ends with ctx anyway.
	ctx = context.WithoutCancel(ctx)
	grace, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	select {
	case <-s.handover:
		end(errLeave)
		for _, u := range s.all() {
			if err := u.halt(ctx, errLeave); err != nil {
				return err
			}
		}
		return nil
	default:
	}
	defer end(errStop)
	return s.haltAll(ctx)
}

func (o *Options) setDefaults() {
	if o.BackoffMin <= 0 {
		o.BackoffMin = time.Second
	}
	if o.BackoffMax <= 0 {
		o.BackoffMax = time.Minute
	}
	if o.BackoffReset <= 0 {
		o.BackoffReset = 2 * time.Minute
	}
}

// takeLock makes sure that there is one supervisor; the lock ends with the
// process and children do not inherit it. It is tried for a moment: a killed
// predecessor may have closed its socket already and its lock not yet.
func takeLock(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, "supervisor.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock supervisor: %w", err)
	}
	for try := 0; ; try++ {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if try >= maxTries || !errors.Is(err, syscall.EWOULDBLOCK) {
			if errors.Is(err, syscall.EWOULDBLOCK) {
				err = ErrRunning
			}
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if !timer.Wait(ctx, tryPause) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ctx.Err()), f.Close())
		}
	}
}

// resume takes over what an earlier supervisor left running: what is wanted
// is watched again, what is not is stopped.
func (s *supervisor) resume(ctx context.Context) {
	for _, u := range s.all() {
		id, found := u.findProcess()
		u.update(func() {
			u.id = nil
			if found {
				u.id = &id
			}
		})
		if !found {
			continue
		}
		_ = u.start(ctx, s.life) // cannot wait: no loop runs yet
		if !u.record().Wanted {
			u.cancel(errStop)
		}
	}
}

// bringUp starts in order what is wanted and does not run.
func (s *supervisor) bringUp(ctx context.Context) {
	defs, err := service.Select(s.definitions(), nil)
	if err != nil {
		s.conf.Logger.Error("services not started", "err", err)
		return
	}
	for _, d := range defs {
		u := s.unit(d.Name)
		if u == nil || !u.record().Wanted || ctx.Err() != nil {
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, time.Minute)
		err := u.start(waiting, s.life)
		if err == nil {
			err = u.awaitStarted(waiting)
		}
		cancel()
		if err != nil {
			s.conf.Logger.Error("service not ready", "service", d.Name, "err", err)
		}
	}
}
