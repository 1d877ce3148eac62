package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"
)

// agent is the agent alone: a unit where systemd runs the host.
func (s *session) agent() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "renew certificates, follow addresses, sign requests (a service runs it)", Hidden: true,
		Description: "mk agent", UsageText: exitsUsual,
		Action: func(c *cli.Context) error {
			if err := s.root("agent"); err != nil {
				return err
			}
			return s.runAgent(c.Context, filepath.Join(s.global.root, "var/log"))
		},
	}
}
