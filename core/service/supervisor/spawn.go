package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/service/process"
)

// Program is what Spawn starts: a program that calls Run.
type Program struct {
	Path    string
	Args    []string // without the program's name
	Env     []string // the whole environment
	RunDir  string
	LogFile string // its own log
}

// Spawn makes sure that a supervisor answers: one that runs is left alone,
// otherwise p is started, in a session of its own, and waited for. On error
// none was started, or one that does not answer by the end of ctx.
func Spawn(ctx context.Context, p Program) error {
	client := NewClient(p.RunDir)
	if _, err := client.Status(ctx); err == nil || !errors.Is(err, service.ErrNotRunning) {
		return err
	}
	child, err := p.start()
	if err != nil {
		return err
	}
	defer child.Close()
	for {
		tick, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		ended := child.Wait(tick) == nil
		cancel()
		_, err := client.Status(ctx)
		switch {
		case err == nil:
			return nil
		case ended:
			return fmt.Errorf("supervisor %s ended at once: %s", p.Path, logfile.LastError(p.LogFile, 0))
		case ctx.Err() != nil:
			return fmt.Errorf("supervisor %s does not answer: %w", p.Path, ctx.Err())
		}
	}
}

func (p Program) start() (*process.Process, error) {
	if err := keepFiles(); err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open standard input: %w", err)
	}
	defer null.Close()
	out, err := logfile.Open(p.LogFile)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	daemon, err := os.StartProcess(p.Path, append([]string{filepath.Base(p.Path)}, p.Args...), &os.ProcAttr{
		Dir:   "/",
		Env:   append([]string{}, p.Env...),
		Files: []*os.File{null, out, out},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start supervisor %s: %w", p.Path, err)
	}
	defer func() { _ = daemon.Release() }()
	id, err := process.Identify(daemon.Pid)
	if err == nil {
		var watched *process.Process
		if watched, err = process.Open(id); err == nil {
			return watched, nil
		}
	}
	return nil, fmt.Errorf("supervisor %s ended at once: %s (%w)", p.Path, logfile.LastError(p.LogFile, 0), err)
}
