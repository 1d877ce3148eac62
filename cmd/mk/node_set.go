package main

import (
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
)

// nodeSet sets and takes labels and taints of a node.
func (s *session) nodeSet(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk node set: which node? mk node list names them")
	}
	m, err := membership.ParseMarks(c.Args().First(), c.StringSlice("label"), c.StringSlice("taint"))
	if err != nil {
		return err
	}
	if m.Empty() {
		return usage("mk node set: nothing to set: --label or --taint")
	}
	if err := s.root("node set"); err != nil {
		return err
	}
	return s.open("node set", func(n *operation.Node) error {
		ctx, cancel := s.bounded(c)
		defer cancel()
		if s.global.dryRun {
			return s.showPlan(&operation.Plan{Then: []string{"mark " + m.Node}})
		}
		if err := membership.Of(n).Mark(ctx, m); err != nil {
			return err
		}
		if !s.documents() {
			s.printf("%s is as wanted\n", m.Node)
		}
		return nil
	})
}
