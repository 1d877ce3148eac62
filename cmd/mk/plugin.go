package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	pluginproblem "mk8s.io/mk/pluginsdir/problem"
)

func (s *session) pluginVerbs() *cli.Command {
	authority := &cli.StringFlag{Name: "for", Usage: "only for this `AUTHORITY`: kubernetes, front-proxy or datastore"}
	return &cli.Command{
		Name: "plugin", Aliases: []string{"plugins"}, Usage: "list, install, use, roll back, remove and verify plugins",
		Description: "mk plugin list\nsudo mk plugin install ./certs-vault\nsudo mk plugin use certs/vault", UsageText: exitsUsual + ", 3 refused" + exitsSome + ", 6 needs --yes",
		Action: s.listPlugins,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the installed plugins", Description: "mk plugin list\nsudo mk plugin list --all-nodes", UsageText: exitsFar,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "all-nodes", Usage: "of every node, with their digests"}}, Action: s.listPlugins},
			{Name: "info", Usage: "show one plugin", ArgsUsage: "KIND/NAME[@CONSTRAINT]", Description: "mk plugin info certs/local", UsageText: exitsRead, Action: s.pluginInfo},
			{Name: "install", Usage: "install a plugin from a folder", ArgsUsage: "FOLDER", Description: "sudo mk plugin install ./certs-vault", UsageText: exitsUsual + ", 3 refused, 6 needs --yes",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "reinstall", Usage: "replace the same version by this content"}}, Action: s.installPlugin},
			{Name: "use", Usage: "make a plugin the active one", ArgsUsage: "KIND/NAME[@CONSTRAINT]", Description: "sudo mk plugin use certs/vault@~1.9", UsageText: exitsUsual + ", 3 refused", Flags: []cli.Flag{authority}, Action: s.usePlugin},
			{Name: "rollback", Usage: "go back to what was active before", ArgsUsage: "KIND/NAME", Description: "sudo mk plugin rollback certs/vault", UsageText: exitsUsual, Action: s.rollbackPlugin},
			{Name: "remove", Usage: "remove an installed plugin that is not active", ArgsUsage: "KIND/NAME[@CONSTRAINT]", Description: "sudo mk plugin remove certs/vault@1.9.0", UsageText: exitsUsual, Action: s.removePlugin},
			{Name: "verify", Usage: "compare installed plugins with their digests", ArgsUsage: "[KIND/NAME]", Description: "mk plugin verify", UsageText: exitsRead + ", 3 one was changed", Action: s.verifyPlugins},
			{Name: "history", Usage: "show what happened to a plugin", ArgsUsage: "KIND/NAME", Description: "mk plugin history certs/local", UsageText: exitsRead, Action: s.pluginHistory},
		},
	}
}

// named is KIND/NAME[@CONSTRAINT].
func named(c *cli.Context) (kind, name, constraint string, err error) {
	word, constraint, _ := strings.Cut(c.Args().First(), "@")
	kind, name, ok := strings.Cut(word, "/")
	if c.Args().Len() != 1 || !ok || kind == "" || name == "" || strings.Contains(name, "/") {
		return "", "", "", usage("mk plugin %s needs a plugin as KIND/NAME, for example certs/local", c.Command.Name)
	}
	return kind, name, constraint, nil
}

// knownPlugin refuses a plugin that is not installed, and a constraint that no
// installed version fits. An operation that was interrupted is gone on with.
func knownPlugin(n *operation.Node, kind, name, constraint string) error {
	if open, err := n.Journal.Open(); err != nil || open != nil && open.Verb == "plugin remove" {
		return err
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	id := kind + "/" + name
	if known := pluginNames(lock); !slices.Contains(known, id) {
		p := unknown("plugin", id, known, "mk plugin list")
		p.Message = fmt.Sprintf("plugin %.60s is not installed", id)
		return p
	}
	_, err = lock.Resolve(kind, name, constraint)
	if e, ok := errors.AsType[*pluginproblem.Error](err); ok {
		p := usage("%s", e.What)
		p.Why, p.Next = e.Why, []string{e.Next}
		return p
	}
	return err
}

// pluginNames are the installed plugins, as KIND/NAME.
func pluginNames(lock *lockfile.Lock) []string {
	var out []string
	for _, i := range lock.Installed {
		if id := i.Identity.String(); !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// maybe opens the node where there is one.
func (s *session) maybe(verb string, do func(*operation.Node) error) error {
	if _, err := os.Stat(s.global.root); os.IsNotExist(err) {
		return nil
	}
	err := s.openFolder(verb, do)
	if errors.Is(err, operation.ErrNoNode) {
		return nil // a reset leaves the folder
	}
	return err
}

func (s *session) listPlugins(c *cli.Context) error {
	if c.Bool("all-nodes") {
		if err := s.root("plugin list"); err != nil { // other nodes are asked
			return err
		}
		return s.open("plugin", func(n *operation.Node) error {
			return lookFar(s, c, n, operation.Where{All: true}, operation.LookPlugins, nil, "PLUGIN\tVERSION\tACTIVE\tDIGEST", func(all []pluginsdir.Listed) []string {
				rows := make([]string, 0, len(all))
				for _, l := range all {
					rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", l.Identity, l.Version, activeText(l), l.Digest))
				}
				return rows
			})
		})
	}
	return s.openFolder("plugin", func(n *operation.Node) error {
		all, err := n.Dir.List()
		if err != nil {
			return err
		}
		return s.show(all, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "PLUGIN\tVERSION\tACTIVE\tCLASS\tSOURCE")
			for _, l := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Identity, l.Version, activeText(l), l.Class, l.Source)
			}
			return t.Flush()
		})
	})
}

func activeText(l pluginsdir.Listed) string {
	switch {
	case l.Missing:
		return "missing"
	case !l.Active:
		return "-"
	case len(l.For) > 0:
		return strings.Join(l.For, ",")
	}
	return "yes"
}

func (s *session) pluginInfo(c *cli.Context) error {
	kind, name, constraint, err := named(c)
	if err != nil {
		return err
	}
	return s.openFolder("plugin", func(n *operation.Node) error {
		if err := knownPlugin(n, kind, name, constraint); err != nil {
			return err
		}
		d, err := n.Dir.Info(kind, name, constraint)
		if err != nil {
			return err
		}
		return s.show(d, func(w io.Writer) error { return showPlugin(w, d) })
	})
}

func (s *session) installPlugin(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk plugin install: which folder?")
	}
	if err := s.root("plugin install"); err != nil {
		return err
	}
	folder := c.Args().First()
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return usage("%s is not a folder", folder)
	}
	o, err := s.options("plugin install")
	if err != nil {
		return err
	}
	if s.global.dryRun {
		plan, err := operation.DryInstall(c.Context, o, folder)
		if err != nil {
			return err
		}
		return s.showPlan(plan)
	}
	n, err := operation.CreateNode(o)
	if err != nil {
		return err
	}
	result, err := n.InstallPlugin(c.Context, folder, c.Bool("reinstall"), s.consent)
	if err := joinClose(err, n); err != nil {
		return err
	}
	return s.show(result.Installed, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "installed %s %s (%s)\n", result.Installed.Identity, result.Installed.Version, result.Installed.Class)
		return err
	})
}

// consent shows what a plugin may do and asks, by the word for its class.
func (s *session) consent(p *pluginsdir.Proposal) error {
	w := printableWriter{s.err}
	fmt.Fprintf(w, "%s %s is %s\n", p.Manifest.Identity.Identity, p.Manifest.Identity.Version, p.Class)
	for _, r := range p.Reasons {
		fmt.Fprintf(w, "  because %s\n", r)
	}
	for _, g := range p.Grants {
		fmt.Fprintf(w, "  may %s\n", g)
	}
	return s.agree("It will be allowed to do this.", string(p.Class))
}

func (s *session) usePlugin(c *cli.Context) error {
	kind, name, constraint, err := named(c)
	if err != nil {
		return err
	}
	if err := s.root("plugin use"); err != nil {
		return err
	}
	return s.openFolder("plugin use", func(n *operation.Node) error {
		if err := knownPlugin(n, kind, name, constraint); err != nil {
			return err
		}
		if s.global.dryRun {
			plan, err := n.DryUse(c.Context, kind, name, constraint, c.String("for"))
			if err != nil {
				return err
			}
			return s.showPlan(plan)
		}
		flips, err := n.UsePlugin(c.Context, kind, name, constraint, c.String("for"))
		if err != nil {
			return err
		}
		return s.showFlips(flips)
	})
}

func (s *session) showFlips(flips []lockfile.Flip) error {
	return s.show(flips, func(w io.Writer) error {
		if len(flips) == 0 {
			fmt.Fprintln(w, "it is active already")
		}
		for _, f := range flips {
			where := f.Kind
			if f.Authority != "" {
				where += " for " + f.Authority
			}
			fmt.Fprintf(w, "%s: %s %s\n", where, f.To.Identity, f.To.Version)
		}
		return nil
	})
}

func (s *session) rollbackPlugin(c *cli.Context) error {
	kind, name, _, err := named(c)
	if err != nil {
		return err
	}
	if err := s.root("plugin rollback"); err != nil {
		return err
	}
	return s.openFolder("plugin rollback", func(n *operation.Node) error {
		if err := knownPlugin(n, kind, name, ""); err != nil {
			return err
		}
		if s.global.dryRun {
			plan, err := n.DryRollback(c.Context, kind, name)
			if err != nil {
				return err
			}
			return s.showPlan(plan)
		}
		flips, err := n.RollbackPlugin(c.Context, kind, name)
		if err != nil {
			return err
		}
		return s.showFlips(flips)
	})
}

func (s *session) removePlugin(c *cli.Context) error {
	kind, name, constraint, err := named(c)
	if err != nil {
		return err
	}
	if err := s.root("plugin remove"); err != nil {
		return err
	}
	return s.openFolder("plugin remove", func(n *operation.Node) error {
		if err := knownPlugin(n, kind, name, constraint); err != nil {
			return err
		}
		if s.global.dryRun {
			plan, err := n.DryRemove(kind, name, constraint)
			if err != nil {
				return err
			}
			return s.showPlan(plan)
		}
		gone, err := n.RemovePlugin(c.Context, kind, name, constraint)
		if err != nil {
			return err
		}
		return s.show(gone, func(w io.Writer) error {
			for _, g := range gone {
				fmt.Fprintf(w, "removed %s %s\n", g.Identity, g.Version)
			}
			return nil
		})
	})
}

func (s *session) verifyPlugins(c *cli.Context) error {
	kind, name, err := "", "", error(nil)
	if c.Args().Len() > 0 {
		if kind, name, _, err = named(c); err != nil {
			return err
		}
	}
	return s.openFolder("plugin", func(n *operation.Node) error {
		if kind != "" {
			if err := knownPlugin(n, kind, name, ""); err != nil {
				return err
			}
		}
		wanted := func(i lockfile.Installed) bool { return kind == "" || i.Kind == kind && i.Name == name }
		findings, err := n.Dir.Verify(c.Context, wanted)
		if err != nil {
			return err
		}
		err = s.show(findings, func(w io.Writer) error {
			for _, f := range findings {
				fmt.Fprintln(w, f.Error())
			}
			if len(findings) == 0 {
				fmt.Fprintln(w, "all plugins are what was installed")
			}
			return nil
		})
		if err == nil && len(findings) > 0 {
			return &problem{Reason: "INTEGRITY", Message: fmt.Sprintf("%d findings in the installed plugins", len(findings)), exit: exitRefused, state: unchanged}
		}
		return err
	})
}

func (s *session) pluginHistory(c *cli.Context) error {
	kind, name, _, err := named(c)
	if err != nil {
		return err
	}
	return s.openFolder("plugin", func(n *operation.Node) error {
		events, err := n.Dir.History(kind, name)
		if err != nil {
			return err
		}
		if len(events) == 0 { // one that was removed has a history, too
			if err := knownPlugin(n, kind, name, ""); err != nil {
				return err
			}
			events = []pluginsdir.Event{}
		}
		return s.document(events)
	})
}
