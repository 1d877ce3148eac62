package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) refreshCerts() *cli.Command {
	return &cli.Command{
		Name: "refresh-certs", Usage: "renew this node's certificates (as mk certs renew)", ArgsUsage: "[CERTIFICATE...]",
		Description: "sudo mk refresh-certs\nsudo mk refresh-certs --cert server.crt", UsageText: exitsUsual,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "cert", Aliases: []string{"e"}, Usage: "only this `CERTIFICATE`"},
			&cli.BoolFlag{Name: "check", Aliases: []string{"c"}, Usage: "only say when they end"},
		},
		Action: s.renewCerts,
	}
}

func (s *session) renewCerts(c *cli.Context) error {
	if c.Bool("check") {
		return s.listCerts(c)
	}
	if err := s.root(c.Command.Name); err != nil {
		return err
	}
	var profiles []string
	for _, name := range append(c.StringSlice("cert"), c.Args().Slice()...) {
		profiles = append(profiles, strings.TrimSuffix(name, ".crt"))
	}
	where, err := whereOf(c)
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	return s.open("refresh-certs", func(n *operation.Node) error {
		o := operation.RenewOptions{Profiles: profiles}
		if err := n.CheckProfiles(profiles); err != nil {
			return err
		}
		if where.Far() {
			return s.far(c, n, where, "renew "+word(strings.Join(profiles, ", "), "all certificates"), func(ctx context.Context) (int, error) {
				return n.WishRenewal(ctx, profiles, where)
			})
		}
		if s.global.dryRun {
			plan, err := n.DryRenew(ctx, o)
			if err != nil {
				return err
			}
			return s.showPlan(plan)
		}
		renewed, err := n.Renew(ctx, o)
		if err != nil {
			return err
		}
		return s.show(renewed, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "renewed %s\n", strings.Join(renewed, ", "))
			return err
		})
	})
}
