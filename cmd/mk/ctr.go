package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) ctr() *cli.Command {
	return &cli.Command{
		Name: "ctr", Usage: "talk to containerd", ArgsUsage: "...", SkipFlagParsing: true,
		Description: "sudo mk ctr images list", UsageText: "those of ctr",
		Action: func(c *cli.Context) error {
			if err := s.root("ctr"); err != nil {
				return err
			}
			return s.open("ctr", func(n *operation.Node) error {
				argv := append([]string{"ctr", "--address", n.Defaults().ContainerdSocket(), "--namespace", "k8s.io"}, c.Args().Slice()...)
				return become(n.Programs, "ctr", argv, os.Environ())
			})
		},
	}
}
