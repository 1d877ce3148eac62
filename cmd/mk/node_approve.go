package main

import (
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
)

// approveNode lets a node in that waits.
func (s *session) approveNode(c *cli.Context) error { return s.decideJoin(c, true, "") }

// decideJoin says yes or no to a join that waits.
func (s *session) decideJoin(c *cli.Context, approve bool, reason string) error {
	verb, done := "deny", "denied"
	if approve {
		verb, done = "approve", "approved"
	}
	if c.Args().Len() != 1 {
		return usage("mk node %s: which node? mk node list --pending names those that wait", verb)
	}
	if err := s.root("node " + verb); err != nil {
		return err
	}
	name := c.Args().First()
	return s.open("node "+verb, func(n *operation.Node) error {
		if s.global.dryRun {
			return s.showPlan(&operation.Plan{Then: []string{verb + " the join of " + name}})
		}
		ctx, cancel := s.bounded(c)
		defer cancel()
		if err := membership.Of(n).DecideJoin(ctx, name, approve, reason); err != nil {
			return err
		}
		if !s.documents() {
			s.printf("%s %s\n", done, name)
		}
		return nil
	})
}
