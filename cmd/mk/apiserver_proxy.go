package main

import (
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/apiproxy"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/version"
)

// apiserverProxy is a worker's way to all API servers: a service runs it.
func (s *session) apiserverProxy() *cli.Command {
	return &cli.Command{
		Name: "apiserver-proxy", Usage: "pass a worker's connections on to the API servers (a service runs it)", Hidden: true,
		Description: "mk apiserver-proxy", UsageText: exitsUsual,
		Action: func(c *cli.Context) error {
			if err := s.root("apiserver-proxy"); err != nil {
				return err
			}
			s.stays()
			root, err := node.Open(s.global.root, node.Options{})
			if err != nil {
				return err
			}
			log := hclog.New(&hclog.LoggerOptions{Name: "apiserver-proxy", Level: hclog.Info, Output: s.err})
			return errors.Join(apiproxy.Serve(c.Context, root, version.Version, log), root.Close())
		},
	}
}
