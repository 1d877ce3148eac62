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
			&cli.BoolFlag{Name: "undo", Aliases: []string{"u"}, Usage: "go back to those before the last renewal"},
			&cli.BoolFlag{Name: "check", Aliases: []string{"c"}, Usage: "only say when they end"},
		},
		Action: s.renewCerts,
	}
}

// undoRenewal goes back to the certificates before the last renewal.
func (s *session) undoRenewal(c *cli.Context) error {
	if err := s.root("certs undo"); err != nil {
		return err
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	return s.open("certs undo", func(n *operation.Node) error {
		if s.global.dryRun {
			number, err := n.LastRenewal()
			if err != nil {
				return err
			}
			return s.showPlan(&operation.Plan{Then: []string{fmt.Sprintf("undo change %d", number)}})
		}
		number, err := n.UndoRenewal(ctx)
		if err == nil {
			err = s.well(ctx, n, 0)
		}
		if err != nil {
			return err
		}
		return s.show(map[string]int{"undone": number}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "the certificates are those before change %d\n", number)
			return err
		})
	})
}

func (s *session) renewCerts(c *cli.Context) error {
	if c.Bool("check") {
		return s.listCerts(c)
	}
	if c.Bool("undo") {
		if c.Args().Len() > 0 || c.IsSet("cert") {
			return usage("--undo takes the last renewal back as a whole")
		}
		return s.undoRenewal(c)
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
