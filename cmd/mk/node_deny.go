package main

import "github.com/urfave/cli/v2"

// denyNode refuses a node that waits.
func (s *session) denyNode(c *cli.Context) error { return s.decideJoin(c, false, c.String("reason")) }
