package main

import "github.com/urfave/cli/v2"

// nodeDeny refuses a node that waits.
func (s *session) nodeDeny() *cli.Command {
	return &cli.Command{
		Name: "deny", Usage: "refuse a node that waits to join, on the node that serves it", ArgsUsage: "NAME",
		Description: "sudo mk node deny node-b --reason 'not ours'", UsageText: exitsUsual,
		Flags:  []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "what the joining side is told: a `TEXT`"}},
		Action: func(c *cli.Context) error { return s.decideJoin(c, false, c.String("reason")) },
	}
}
