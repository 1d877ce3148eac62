package main

import (
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) restart() *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "restart services, with the arguments that are on disk", ArgsUsage: "[SERVICE...]",
		Description: "sudo mk restart kubelite", UsageText: exitsUsual,
		Action: func(c *cli.Context) error {
			if err := s.root("restart"); err != nil {
				return err
			}
			ctx, cancel := s.bounded(c)
			defer cancel()
			return s.open("restart", func(n *operation.Node) error {
				names, err := n.ServiceNames(c.Args().Slice())
				if err != nil {
					return usage("%s", err.Error())
				}
				if s.global.dryRun {
					return s.showPlan(n.DryRestart(names...))
				}
				return n.Restart(ctx, names...)
			})
		},
	}
}
