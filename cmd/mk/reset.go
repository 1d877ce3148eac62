package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) reset() *cli.Command {
	return &cli.Command{
		Name: "reset", Usage: "take this node away: its pods, its data, its keys",
		Description: "sudo mk reset --all", UsageText: exitsUsual + ", 6 needs --yes",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "node, data and keys; volumes outside its folder (hostPath) stay: mk makes none"}},
		Action: func(c *cli.Context) error { return s.doReset(c, c.Bool("all")) },
	}
}

func (s *session) doReset(c *cli.Context, all bool) error {
	if !all {
		p := usage("mk reset takes everything: say so with --all")
		p.Next = []string{"mk reset --all"}
		return p
	}
	if err := s.root(c.Command.Name); err != nil {
		return err
	}
	if s.global.dryRun {
		plan, err := s.planReset(c)
		if err != nil {
			return err
		}
		return s.showPlan(plan)
	}
	return s.withFolder(c, func(n *operation.Node) error {
		name := ""
		if n.Record != nil {
			name = n.Record.Name
		}
		if err := s.agree(fmt.Sprintf("This deletes the node %s and all its data in %s, for good.", name, n.Root.Dir()), name); err != nil {
			return err
		}
		return n.Reset(c.Context)
	})
}

// planReset is what a reset would do; nothing where there is no node.
func (s *session) planReset(c *cli.Context) (*operation.Plan, error) {
	plan := &operation.Plan{}
	err := s.withFolder(c, func(n *operation.Node) error {
		var err error
		plan, err = n.PlanReset(c.Context)
		return err
	})
	return plan, err
}

// withFolder does something with the node's folder, where there is one.
func (s *session) withFolder(c *cli.Context, do func(*operation.Node) error) error {
	err := s.openFolder(c.Command.Name, do)
	if errors.Is(err, operation.ErrNoNode) {
		s.note("there is no node in %s", s.global.root)
		return nil
	}
	return err
}
