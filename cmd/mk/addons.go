package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) addons() *cli.Command {
	return &cli.Command{
		Name: "addons", Aliases: []string{"addon"}, Usage: "list the addons that can be enabled",
		Description: "mk addons\nmk addons info dns", UsageText: exitsRead,
		Action: s.listAddons,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the addons", Description: "mk addons list", UsageText: exitsRead, Action: s.listAddons},
			{Name: "info", Usage: "show one addon", ArgsUsage: "ADDON", Description: "mk addons info dns", UsageText: exitsRead, Action: s.addonInfo},
		},
	}
}

func (s *session) listAddons(*cli.Context) error {
	return s.open("addons", func(n *operation.Node) error {
		all, err := n.Addons()
		if err != nil {
			return err
		}
		return s.show(all, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			for _, a := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Name, a.Version, a.Plugin, a.Description)
			}
			return t.Flush()
		})
	})
}

func (s *session) addonInfo(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk addons info: which addon?")
	}
	return s.open("addons", func(n *operation.Node) error {
		a, err := n.FindAddon(c.Args().First())
		if err != nil {
			return err
		}
		return s.show(a, func(w io.Writer) error {
			fmt.Fprintf(w, "%s %s, from %s %s\n%s\n", a.Name, a.Version, a.Plugin, a.Plugin.Version, a.Description)
			if len(a.Images) > 0 {
				fmt.Fprintf(w, "images     %s\n", strings.Join(a.Images, " "))
			}
			for _, line := range a.Arguments {
				fmt.Fprintf(w, "argument   %s\n", line)
			}
			return nil
		})
	})
}
