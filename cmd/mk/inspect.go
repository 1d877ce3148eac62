package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/observe"
	"mk8s.io/mk/core/operation"
)

// inspectLimit is how long a report may take, whatever hangs.
const inspectLimit = 60 * time.Second

// slowPatience is how long a disk may take where a whole report is waited for.
const slowPatience = 10 * time.Second

func (s *session) inspect() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "write a report for somebody far away, without secrets",
		Description: "sudo mk inspect --to report.tar.gz", UsageText: exitsUsual,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "write to this `FILE`"},
			&cli.BoolFlag{Name: "no-logs", Usage: "leave logs out"},
		},
		Action: func(c *cli.Context) error {
			to := c.String("to")
			if to == "" {
				to = "mk-report-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
			}
			ctx, cancel := context.WithTimeout(c.Context, inspectLimit)
			defer cancel()
			return s.look(c.Context, "inspect", slowPatience, func(n *operation.Node) error {
				var report bytes.Buffer
				if err := observe.Inspect(ctx, n, &report, !c.Bool("no-logs")); err != nil {
					return err
				}
				_, err := node.Await(slowPatience, to, func(func(string)) (bool, error) { return true, replaceFile(to, report.Bytes()) }, func(bool) {})
				if err != nil {
					return err
				}
				return s.show(map[string]string{"file": to}, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, to)
					return err
				})
			})
		},
	}
}
