package main

import "github.com/urfave/cli/v2"

func (s *session) disable() *cli.Command {
	return &cli.Command{
		Name: "disable", Usage: "disable an addon", ArgsUsage: "ADDON...",
		Description: "sudo mk disable dns", UsageText: exitsUsual,
		Action: func(c *cli.Context) error { return s.setAddons(c, false) },
	}
}
