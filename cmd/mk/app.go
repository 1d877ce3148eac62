package main

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/version"
)

// newApp is the tree of verbs. One verb is one file.
func newApp(s *session) *cli.App {
	app := &cli.App{
		Name: "mk", HelpName: "mk", Usage: "real Kubernetes on a node; every strategic decision is a plugin",
		Version: version.Version, HideVersion: true, Writer: s.out, ErrWriter: s.err, Reader: s.in,
		Flags: append(globalFlags(s), cli.HelpFlag), Before: s.checkGlobals, Suggest: true,
		CustomAppHelpTemplate: appHelp, HideHelpCommand: true,
		ExitErrHandler: func(*cli.Context, error) {}, // finish says it
		Action:         func(c *cli.Context) error { return s.noVerb(c, "mk", c.App.Commands) },
		Commands: []*cli.Command{
			s.start(), s.stop(), s.restart(), s.status(), s.doctor(), s.inspect(), s.logs(),
			s.config(), s.kubectl(), s.ctr(), s.argsVerbs(), s.settingsVerbs(), s.changes(), s.certsVerbs(), s.refreshCerts(),
			s.images(), s.tokenVerbs(), s.nodeVerbs(), s.enable(), s.disable(), s.addons(), s.pluginVerbs(),
			s.addNode(), s.join(), s.leave(), s.removeNode(), s.datastoreVerbs(), s.dbctl(),
			s.reset(), s.uninstall(), s.version(), s.completion(), s.help(), s.daemon(), s.agent(), s.apiserverProxy(),
		},
	}
	app.OnUsageError = usageErrorOf("mk", &app.Flags)
	dress(s, app.Commands, "mk")
	return app
}

// dress gives every verb what all have: the global flags, usage errors, help.
func dress(s *session, commands []*cli.Command, path string) {
	for _, c := range commands {
		c.HideHelpCommand = true
		full := path + " " + c.Name
		c.OnUsageError = usageErrorOf(full, &c.Flags)
		c.CustomHelpTemplate = verbHelp
		if c.SkipFlagParsing {
			continue
		}
		if list := find(c.Subcommands, "list"); list != nil { // a bare noun lists
			c.Flags = append(c.Flags, missing(c.Flags, list.Flags)...)
		}
		c.Flags = append(c.Flags, globalFlags(s)...)
		before := c.Before
		c.Before = func(ctx *cli.Context) error {
			if err := s.checkGlobals(ctx); err != nil {
				return err
			}
			if before != nil {
				return before(ctx)
			}
			return nil
		}
		do := c.Action
		if len(c.Subcommands) == 0 {
			c.Action = func(ctx *cli.Context) error {
				if err := noMore(ctx.Args().Slice(), c.ArgsUsage, full); err != nil {
					return err
				}
				return do(ctx)
			}
			continue
		}
		c.Action = func(ctx *cli.Context) error {
			if ctx.Args().Len() == 0 && do != nil {
				return do(ctx)
			}
			return s.noVerb(ctx, full, c.Subcommands)
		}
		dress(s, c.Subcommands, full)
	}
}

// missing are the flags of which have has none of the name.
func missing(have, flags []cli.Flag) []cli.Flag {
	names := flagNames(have)
	return slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool { return slices.Contains(names, f.Names()[0]) })
}

// globalFlags are taken before and after the verb.
func globalFlags(s *session) []cli.Flag {
	g := &s.global
	return []cli.Flag{
		&cli.StringFlag{Name: "root", Usage: "the node's `FOLDER`", EnvVars: []string{"MK_ROOT"}, Value: node.DefaultDir, Category: global, Action: set(&g.root)},
		&cli.StringFlag{Name: "output", Aliases: []string{"o", "format"}, Usage: "pretty, short, json or yaml", Value: "pretty", Category: global, Action: set(&g.output)},
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would change", Category: global, Action: setBool(&g.dryRun)},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "agree to what cannot be undone", Category: global, Action: setBool(&g.yes)},
		&cli.GenericFlag{Name: "timeout", Usage: "give up after this `TIME`: 90s, 2m, or seconds", Value: &patience{to: &g.timeout}, Category: global},
		&cli.BoolFlag{Name: "no-wait", Usage: "do not wait until it is ready", Category: global, Action: setBool(&g.noWait)},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing but the result", Category: global, Action: setBool(&g.quiet)},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say more", Category: global, Action: setBool(&g.verbose)},
		&cli.StringFlag{Name: "color", Usage: "auto, always or never", Value: "auto", Category: global, Action: set(&g.color)},
		&cli.StringFlag{Name: "progress", Usage: "auto, plain, json or none", Value: "auto", Category: global, Action: set(&g.progress)},
	}
}

const global = "everywhere"

// patience is a time as a flag; a number alone is seconds, as MicroK8s has it.
type patience struct{ to *time.Duration }

// Set takes 90, 90s and 2m.
func (p *patience) Set(text string) error {
	if _, err := strconv.Atoi(text); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("it must be longer than nothing")
	}
	if err == nil {
		*p.to = d
	}
	return err
}

// String is the value so far; empty where there is none.
func (p *patience) String() string {
	if p == nil || p.to == nil || *p.to == 0 {
		return ""
	}
	return p.to.String()
}

// number is a whole number within bounds as a flag; what is outside is refused
// with them.
type number struct {
	value, least, most int64
	but                int64 // one more that is allowed
	bounds             string
}

// Set takes a number within the bounds.
func (n *number) Set(text string) error {
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || (v < n.least || v > n.most) && v != n.but {
		return errors.New("it must be " + n.bounds)
	}
	n.value = v
	return nil
}

// String is the number.
func (n *number) String() string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(n.value, 10)
}

func set(to *string) func(*cli.Context, string) error {
	return func(_ *cli.Context, v string) error {
		*to = v
		return nil
	}
}

func setBool(to *bool) func(*cli.Context, bool) error {
	return func(_ *cli.Context, v bool) error {
		*to = v
		return nil
	}
}

// checkGlobals reads the global flags wherever they stand.
func (s *session) checkGlobals(c *cli.Context) error {
	g := &s.global
	for _, f := range []struct {
		name string
		to   *string
		from []string
	}{
		{"output", &g.output, outputs()},
		{"color", &g.color, []string{"auto", "always", "never"}},
		{"progress", &g.progress, []string{"auto", "plain", "json", "none"}},
	} {
		if !c.IsSet(f.name) {
			continue
		}
		v := c.String(f.name)
		more := f.name == "output" && (c.Command.Name == "add-node" && slices.Contains(invitationOutputs(), v) || c.Command.Name == "ports" && v == nft ||
			c.Command.Name == "dbctl")
		if !slices.Contains(f.from, v) && !more {
			return usage("--%s %q is not one of %s", f.name, v, strings.Join(f.from, ", "))
		}
		*f.to = v
	}
	if c.IsSet("root") {
		g.root = c.String("root")
	}
	for name, to := range map[string]*bool{"dry-run": &g.dryRun, "yes": &g.yes, "no-wait": &g.noWait, "quiet": &g.quiet, "verbose": &g.verbose} {
		if c.IsSet(name) {
			*to = c.Bool(name)
		}
	}
	return nil
}

// noVerb says which word is meant where a wrong one was typed.
func (s *session) noVerb(c *cli.Context, path string, commands []*cli.Command) error {
	word := c.Args().First()
	if word == "" {
		if err := cli.ShowAppHelp(c); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	}
	var names []string
	for _, cmd := range commands {
		if !cmd.Hidden {
			names = append(names, cmd.Names()...)
		}
	}
	p := usage("there is no %q in %s", word, path)
	if near := nearest(word, names); near != "" {
		p.Next = []string{path + " " + near}
	} else {
		p.Next = []string{path + " --help"}
	}
	return p
}

// noMore refuses arguments that the usage of a verb does not name. What is
// missing the verb asks for itself: it knows what it is.
func noMore(args []string, argsUsage, path string) error {
	if _, most := arity(argsUsage); most >= 0 && len(args) > most {
		p := usage("%s: %q is one argument too many", path, args[most])
		p.Next = []string{path + " --help"}
		return p
	}
	return nil
}

const (
	exitsUsual = "0 done, 1 failed, 2 wrong usage, 50 needs root"
	exitsTold  = "0 done, 1 failed, 2 wrong usage"
	exitsRead  = exitsTold + ", 50 needs root or the group"
	exitsWait  = exitsUsual + ", 4 not ready in time"
)

const appHelp = `mk - real Kubernetes on a node; every strategic decision is a plugin

  mk start                 start this node
  mk status                say how it is
  mk enable dns            enable an addon
  mk kubectl get pods -A   talk to the cluster

verbs
{{range .VisibleCommands}}  {{printf "%-14s" .Name}} {{.Usage}}
{{end}}
global flags, before or after the verb
{{range .VisibleFlags}}  {{.}}
{{end}}
mk help permissions|ports|files|exit-codes|env
`

const verbHelp = `{{.Description}}

{{.HelpName}} - {{.Usage}}
usage {{.HelpName}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}
{{if .VisibleCommands}}
{{range .VisibleCommands}}  {{printf "%-12s" .Name}} {{.Usage}}
{{end}}{{end}}{{range .VisibleFlagCategories}}{{if ne .Name "` + global + `"}}
flags
{{range .Flags}}  {{.}}
{{end}}{{end}}{{end}}
global flags: mk help
exit  {{.UsageText}}
`
