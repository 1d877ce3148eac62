package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/node"
)

func (s *session) uninstall() *cli.Command {
	return &cli.Command{
		Name: "uninstall", Usage: "take mk away from this machine: the node and the installed programs",
		Description: "sudo mk uninstall", UsageText: exitsUsual + ", 6 needs --yes",
		Action: func(c *cli.Context) error {
			if s.global.dryRun {
				return s.planUninstall(c)
			}
			if err := s.doReset(c, true); err != nil {
				return err
			}
			if err := os.Remove(s.global.root); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("remove %s: %w", s.global.root, err)
			}
			return s.removePrograms()
		},
	}
}

// planUninstall shows what an uninstall would do.
func (s *session) planUninstall(c *cli.Context) error {
	if err := s.root(c.Command.Name); err != nil {
		return err
	}
	plan, err := s.planReset(c)
	if err != nil {
		return err
	}
	dir, links, err := installed()
	if err != nil {
		return err
	}
	paths := append([]string{s.global.root}, links...)
	if links != nil {
		paths = append(paths, dir)
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			line := change.Line{Verb: "remove path", Target: path, Effect: "remove"}
			if isFolder(path) {
				line.Why = "where nothing else is in it"
			}
			plan.Changes = append(plan.Changes, line)
		}
	}
	return s.showPlan(plan)
}

// installed is the folder of mk's programs, and what ./install put elsewhere,
// with the folders that it made, the deepest first:
// nil where the programs run from where they were built.
func installed() (dir string, links []string, err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find mk's own program: %w", err)
	}
	p, err := node.FindPrograms(exe)
	if err != nil {
		return "", nil, err
	}
	list, err := os.ReadFile(filepath.Join(p.Dir(), "installed"))
	if os.IsNotExist(err) {
		return p.Dir(), nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read what was installed: %w", err)
	}
	return p.Dir(), append([]string{}, splitLines(string(list))...), nil
}

// removePrograms removes what ./install put on the machine; programs that run
// from where they were built stay.
func (s *session) removePrograms() error {
	dir, links, err := installed()
	if err != nil {
		return err
	}
	if links == nil {
		s.note("the programs in %s were not installed by ./install: they stay", dir)
		return nil
	}
	for _, link := range links {
		if isFolder(link) {
			continue
		}
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove %s: %w", link, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	for _, folder := range links {
		if isFolder(folder) {
			_ = os.Remove(folder) // one in which somebody else's are stays
		}
	}
	return nil
}

// isFolder tells the folders of what ./install put on the machine.
func isFolder(name string) bool { return strings.HasSuffix(name, "/") }
