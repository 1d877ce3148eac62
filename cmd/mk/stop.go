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
				o := operation.StopOptions{Drain: c.Bool("drain")}
				if s.global.dryRun {
					plan, err := n.DryStop(ctx, o)
					if err != nil {
						return err
					}
					return s.showPlan(plan)
				}
				return n.Stop(ctx, o)
			})
		},
	}
}
