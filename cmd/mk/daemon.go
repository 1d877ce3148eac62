package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/agent"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service/supervisor"
)

// daemon is the embedded supervisor and the agent in one process. `mk start`
// starts it where no systemd runs the host.
func (s *session) daemon() *cli.Command {
	return &cli.Command{
		Name: "daemon", Usage: "keep this node's services up (mk start runs it)", Hidden: true,
		Description: "mk daemon", UsageText: exitsUsual,
		Action: func(c *cli.Context) error {
			if err := s.root("daemon"); err != nil {
				return err
			}
			return s.open("daemon", func(n *operation.Node) error {
				ctx, cancel := context.WithCancel(c.Context)
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- s.runAgent(ctx, "") }()
				err := supervisor.Run(ctx, supervisor.Options{
					RunDir: n.Root.RunDir(), StateFile: n.Root.Path("var/services.json"), LogDir: n.Root.Path("var/log"),
					Group: n.Root.GID(), Logger: slog.Default(),
				})
				cancel()
				return errors.Join(err, <-ended)
			})
		},
	}
}

// runAgent does what mk does while nobody types. It rotates logs where a folder
// of them is named.
func (s *session) runAgent(ctx context.Context, logs string) error {
	s.stays()
	o, err := s.options("agent")
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "agent", Level: hclog.Info, Output: s.err})
	o.Log = log
	return agent.Run(ctx, agent.Options{
		Open: func() (*operation.Node, error) { return operation.OpenNode(o) }, Log: log, Now: o.Now, Logs: logs,
		Markers: filepath.Join(s.global.root, "var/lock"),
		Stop:    func() error { return apart(o.Executable, "--root="+s.global.root, "stop") },
	})
}

// apart starts a program that outlives this process: it is in a session of its
// own. Who waits for it is whoever takes its place as its parent.
func apart(path string, words ...string) error {
	cmd := exec.Command(path, words...) //nolint:noctx // it must not end with its parent
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	go func() { _ = cmd.Wait() }() // its exit code is in the journal
	return nil
}
