package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/node"
)

func (s *session) uninstall() *cli.Command {
	return &cli.Command{
		Name: "uninstall", Usage: "take mk away from this machine: the node and the installed programs",
		Description: "sudo mk uninstall", UsageText: exitsUsual + ", 6 needs --yes",
		Action: func(c *cli.Context) error {
			if err := s.doReset(c, true); err != nil || s.global.dryRun {
				return err
			}
			if err := os.Remove(s.global.root); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("remove %s: %w", s.global.root, err)
			}
			return s.removePrograms()
		},
	}
}

// removePrograms removes what ./install put on the machine; programs that run
// from where they were built stay.
func (s *session) removePrograms() error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find mk's own program: %w", err)
	}
	p, err := node.FindPrograms(exe)
	if err != nil {
		return err
	}
	receipt := filepath.Join(p.Dir(), "installed")
	links, err := os.ReadFile(receipt)
	if os.IsNotExist(err) {
		s.note("the programs in %s were not installed by ./install: they stay", p.Dir())
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was installed: %w", err)
	}
	for _, link := range splitLines(string(links)) {
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove %s: %w", link, err)
		}
	}
	if err := os.RemoveAll(p.Dir()); err != nil {
		return fmt.Errorf("remove %s: %w", p.Dir(), err)
	}
	return nil
}
