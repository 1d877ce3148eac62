package main

import (
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) stop() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "stop this node; its data stay",
		Description: "sudo mk stop --drain", UsageText: exitsUsual,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "drain", Usage: "move pods to other nodes first"}},
		Action: func(c *cli.Context) error {
			if err := s.root("stop"); err != nil {
				return err
			}
			ctx, cancel := s.bounded(c)
			defer cancel()
			return s.open("stop", func(n *operation.Node) error {
				if s.global.dryRun {
					return s.showPlan(&operation.Plan{Then: []string{"stop the services", "remove what pods left"}})
				}
				return n.Stop(ctx, operation.StopOptions{Drain: c.Bool("drain")})
			})
		},
	}
}
