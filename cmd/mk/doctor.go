package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/observe"
	"mk8s.io/mk/core/operation"
)

func (s *session) doctor() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look for what is wrong", ArgsUsage: "[AREA]",
		Description: "mk doctor\nmk doctor certs --check", UsageText: exitsRead + ", 4 with --check: something fails",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "end with 4 where something fails already"}},
		Action: func(c *cli.Context) error {
			for _, a := range c.Args().Slice() {
				if !slices.Contains(observe.Areas(), a) {
					return usage("there is no area %q: %s", a, strings.Join(observe.Areas(), ", "))
				}
			}
			return s.look("doctor", slowPatience, func(n *operation.Node) error {
				found := observe.Doctor(c.Context, n, c.Args().Slice()...)
				err := s.show(found, func(w io.Writer) error {
					for _, f := range found {
						fmt.Fprintf(w, "%-12s %s\n", f.Area, f.What)
						if f.Why != "" {
							fmt.Fprintf(w, "%-12s why   %s\n", "", f.Why)
						}
						if f.Next != "" {
							fmt.Fprintf(w, "%-12s next  %s\n", "", f.Next)
						}
					}
					if len(found) == 0 {
						fmt.Fprintln(w, "nothing is wrong")
					}
					return nil
				})
				serious := slices.ContainsFunc(found, func(f observe.Finding) bool { return f.Serious })
				if err == nil && serious && c.Bool("check") {
					return &problem{Reason: "UNHEALTHY", Message: "something fails on this node", exit: exitNotReady}
				}
				return err
			})
		},
	}
}
