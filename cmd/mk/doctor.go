package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/observe"
	"mk8s.io/mk/core/operation"
)

func (s *session) doctor() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look for what is wrong, and put it right", ArgsUsage: "[AREA...]",
		Description: "mk doctor\nmk doctor certs --check\nsudo mk doctor --fix", UsageText: exitsUsual + ", 4 with --check: something fails, 6 needs --yes",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "end with 4 where something fails already"},
			&cli.BoolFlag{Name: "fix", Usage: "show what mk can put right by itself, ask, and do it"},
		},
		Action: func(c *cli.Context) error {
			for _, a := range c.Args().Slice() {
				if !slices.Contains(observe.Areas(), a) {
					return unknown("area", a, observe.Areas(), "mk doctor")
				}
			}
			if c.Bool("fix") {
				return s.repair(c)
			}
			return s.look(c.Context, "doctor", slowPatience, func(n *operation.Node) error { return s.findings(c, n) })
		},
	}
}

func (s *session) findings(c *cli.Context, n *operation.Node) error {
	found := observe.Doctor(c.Context, n, c.Args().Slice()...)
	err := s.show(found, func(w io.Writer) error {
		for _, f := range found {
			fmt.Fprintf(w, "%-12s %s\n", f.Area, f.What)
			if f.Why != "" {
				fmt.Fprintf(w, "%-12s why   %s\n", "", f.Why)
			}
			if f.Next != "" {
				fmt.Fprintf(w, "%-12s next  %s\n", "", f.Next)
			}
		}
		if len(found) == 0 {
			fmt.Fprintln(w, "nothing is wrong")
		}
		return nil
	})
	serious := slices.ContainsFunc(found, func(f observe.Finding) bool { return f.Serious })
	if err == nil && serious && c.Bool("check") {
		return &problem{Reason: "UNHEALTHY", Message: "something fails on this node", exit: exitNotReady}
	}
	return err
}

// repair shows what can be put right, asks, and does it. What is found and is
// no repair stays a finding.
func (s *session) repair(c *cli.Context) error {
	if err := s.root("doctor --fix"); err != nil {
		return err
	}
	areas := c.Args().Slice()
	if len(areas) == 0 {
		areas = observe.Areas()
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	return s.open("doctor", func(n *operation.Node) error {
		r, err := n.FindRepair(ctx, areas)
		if err != nil {
			return err
		}
		if r.Empty() {
			return s.show(map[string]bool{"repaired": false}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "there is nothing that mk can put right by itself: mk doctor")
				return err
			})
		}
		plan, err := n.DryRepair(ctx, r)
		if err != nil {
			return err
		}
		if s.global.dryRun {
			return s.showPlan(plan)
		}
		if !s.global.yes {
			writePlan(printableWriter{s.err}, plan)
			if err := s.agree("This is what will be changed.", ""); err != nil {
				return err
			}
		}
		if err := n.Repair(ctx, r); err != nil {
			return err
		}
		return s.show(map[string]bool{"repaired": true}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "repaired: %d changes, %d services restarted\n", len(plan.Changes), len(r.Services))
			return err
		})
	})
}
