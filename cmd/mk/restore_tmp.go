package main

import "github.com/urfave/cli/v2"

func (s *session) restore(c *cli.Context, file string) error { return usage("no") }
