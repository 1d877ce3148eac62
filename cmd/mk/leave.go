package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
)

// leave takes this node out of its cluster.
func (s *session) leave() *cli.Command {
	return &cli.Command{
		Name: "leave", Usage: "take this node out of its cluster",
		Description: "sudo mk leave", UsageText: exitsUsual + ", 6 needs --yes",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "also where the cluster cannot be told, or the last copy of the data goes"},
			&cli.BoolFlag{Name: "no-drain", Usage: "do not move its pods elsewhere first"},
		},
		Action: func(c *cli.Context) error {
			if err := s.root("leave"); err != nil {
				return err
			}
			return s.open("leave", func(n *operation.Node) error {
				name := "the node"
				if n.Record != nil {
					name = n.Record.Name
				}
				if s.global.dryRun {
					return s.showPlan(&operation.Plan{Then: []string{
						"drain the node", "have the datastore saved", "leave the datastore", "have the cluster forget " + name, "remove what is the cluster's from this machine"}})
				}
				if c.Bool("force") {
					if err := s.agree("The node goes without being drained from a healthy cluster; data that only it holds is lost.", name); err != nil {
						return err
					}
				}
				ctx, cancel := s.bounded(c)
				defer cancel()
				if err := membership.Of(n).Leave(ctx, membership.LeaveOptions{Force: c.Bool("force"), NoDrain: c.Bool("no-drain")}); err != nil {
					return err
				}
				return s.show(map[string]string{"node": name, "state": "left"}, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s has left; nothing of the cluster is on this machine\n", name)
					return err
				})
			})
		},
	}
}
