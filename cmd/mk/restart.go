package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) restart() *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "restart services, with the arguments that are on disk", ArgsUsage: "[SERVICE...]",
		Description: "sudo mk restart kubelite\nsudo mk restart kubelite --all-nodes", UsageText: exitsWait + exitsSome,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all-nodes", Usage: "on every node; control-plane nodes one after the other"},
			&cli.StringFlag{Name: "node", Usage: "on another `NODE`"},
		},
		Action: func(c *cli.Context) error {
			if err := s.root("restart"); err != nil {
				return err
			}
			where, err := whereOf(c)
			if err != nil {
				return err
			}
			ctx, cancel := s.bounded(c)
			defer cancel()
			return s.open("restart", func(n *operation.Node) error {
				names, err := n.ServiceNames(c.Args().Slice())
				if err != nil {
					return err
				}
				if where.Far() {
					return s.far(c, n, where, "restart "+word(strings.Join(names, ", "), "all services"), func(ctx context.Context) (int, error) {
						return n.WishRestart(ctx, names, where)
					})
				}
				if s.global.dryRun && n.Record.Stopped {
					return operation.ErrStopped
				}
				if s.global.dryRun {
					return s.showPlan(n.DryRestart(names...))
				}
				if err := n.Restart(ctx, names...); err != nil {
					return err
				}
				return s.well(ctx, n, 0)
			})
		},
	}
}
