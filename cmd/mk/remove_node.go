package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
)

// removeNode takes another node out of the cluster.
func (s *session) removeNode() *cli.Command {
	return &cli.Command{
		Name: "remove-node", Usage: "take another node out of the cluster", ArgsUsage: "NODE",
		Description: "sudo mk remove-node node-b\nsudo mk remove-node node-b --force", UsageText: exitsUsual,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "it is dead and will not come back"},
			&cli.BoolFlag{Name: "no-drain", Usage: "do not move its pods elsewhere first"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return usage("mk remove-node needs the name of one node")
			}
			if err := s.root("remove-node"); err != nil {
				return err
			}
			o := membership.RemoveOptions{Name: c.Args().First(), Force: c.Bool("force"), NoDrain: c.Bool("no-drain")}
			return s.open("remove-node", func(n *operation.Node) error {
				ctx, cancel := s.bounded(c)
				defer cancel()
				if s.global.dryRun {
					return s.showPlan(&operation.Plan{Then: []string{
						"drain " + o.Name, "save the datastore", "take " + o.Name + " out of the datastore", "remove the object and rights of " + o.Name}})
				}
				if err := membership.Of(n).RemoveNode(ctx, o); err != nil {
					return err
				}
				return s.show(map[string]string{"node": o.Name, "state": "removed"}, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s is no node of this cluster any more\n", o.Name)
					return err
				})
			})
		},
	}
}
