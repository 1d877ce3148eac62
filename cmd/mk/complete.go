package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/observe"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/core/settings"
	"mk8s.io/mk/pluginsdir/lockfile"
)

// completeFlag is what the scripts ask with, as the last word: after = is what
// of the next word is typed already.
const completeFlag = "--generate-bash-completion"

// completionLimit is how long names are waited for: a key was pressed.
const completionLimit = 200 * time.Millisecond

// toComplete takes the words of a question of a completion script apart.
func toComplete(words []string) (before []string, typed string, ok bool) {
	last := len(words) - 1
	if last < 1 {
		return nil, "", false
	}
	name, typed, _ := strings.Cut(words[last], "=")
	return words[1:last], typed, name == completeFlag
}

// lineSoFar is where a line stands.
type lineSoFar struct {
	path    string
	command *cli.Command // nil before the first verb
	args    []string
	flag    string // the flag whose value comes next
	flags   []cli.Flag
	root    string
	passed  bool // what follows is another program's
}

// readLine follows the words as far as they are typed.
func readLine(app *cli.App, words []string) lineSoFar {
	l := lineSoFar{path: "mk", flags: app.Flags}
	commands := app.Commands
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch next := find(commands, w); {
		case l.passed || w == "=": // bash makes it a word of its own
		case len(w) > 1 && w[0] == '-':
			name, value, inline := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if !inline && takesValue(l.flags, w) {
				if i++; i < len(words) && words[i] == "=" {
					i++
				}
				if i >= len(words) {
					l.flag = name
					return l
				}
				value = words[i]
			}
			if name == "root" {
				l.root = value
			}
		case next != nil && len(l.args) == 0:
			l.path, l.command, l.passed = l.path+" "+next.Name, next, next.SkipFlagParsing
			l.flags, commands = slices.Concat(app.Flags, next.Flags), next.Subcommands
		default:
			l.args = append(l.args, w)
		}
	}
	return l
}

// complete prints what the next word may be, one a line. It reads the node's
// folder, asks the API server for nodes, and starts nothing. What takes longer
// than one waits after a key is left out.
func (s *session) complete(ctx context.Context, app *cli.App, words []string, typed string) {
	l := readLine(app, words)
	s.global.root = cmp.Or(l.root, s.env("MK_ROOT"), s.global.root)
	s.global.quiet, s.patience = true, completionLimit
	ctx, cancel := context.WithTimeout(ctx, completionLimit)
	defer cancel()
	found := make(chan []string, 1)
	go func() { found <- s.candidates(ctx, app, l, typed) }()
	select {
	case list := <-found:
		for _, w := range list {
			if strings.HasPrefix(w, typed) {
				fmt.Fprintln(s.out, w)
			}
		}
	case <-ctx.Done():
	}
}

func (s *session) candidates(ctx context.Context, app *cli.App, l lineSoFar, typed string) []string {
	switch {
	case l.passed:
		return nil
	case l.flag != "":
		return s.flagValues(ctx, l)
	case strings.HasPrefix(typed, "-"):
		return longFlags(l.flags)
	case (l.command == nil || len(l.command.Subcommands) > 0) && len(l.args) > 0: // a word that is no verb
		return nil
	case l.command == nil:
		return verbs(app.Commands)
	case len(l.command.Subcommands) > 0:
		return verbs(l.command.Subcommands)
	}
	if l.command.Name == "dbctl" && len(l.args) == 0 {
		return []string{"backup", "restore"}
	}
	places := strings.Fields(l.command.ArgsUsage)
	if len(places) == 0 {
		return nil
	}
	at := len(l.args)
	if last := len(places) - 1; at > last {
		if !strings.Contains(places[last], "...") {
			return nil
		}
		at = last
	}
	return slices.DeleteFunc(s.names(ctx, app, l, strings.Trim(places[at], "[].")), func(w string) bool { return slices.Contains(l.args, w) })
}

func verbs(commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		if !c.Hidden {
			out = append(out, c.Name)
		}
	}
	return out
}

func longFlags(flags []cli.Flag) []string {
	var out []string
	for _, f := range flags {
		for _, name := range f.Names() {
			if w := dashed(name); len(name) > 1 && !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// flagValues are the values of a flag that has a closed set of them.
func (s *session) flagValues(ctx context.Context, l lineSoFar) []string {
	switch l.flag {
	case "output", "o", "format":
		out := outputs()
		if l.command != nil && l.command.Name == "add-node" {
			out = append(out, invitationOutputs()...)
		}
		if l.command != nil && l.command.Name == "ports" {
			out = append(out, nft)
		}
		return out
	case "color":
		return []string{"auto", "always", "never"}
	case "progress":
		return []string{"auto", "plain", "json", "none"}
	case "level":
		return []string{"info", "warning", "error"}
	case "auth":
		return []string{"x509", "token"}
	case "cni":
		return []string{"vxlan", "host-gw", "wireguard"}
	case "for":
		return lockfile.Authorities()
	case "node":
		return s.nodeNames(ctx)
	case "addon", "a":
		return s.ofNode(addonNames)
	case "cert", "e":
		return s.ofNode((*operation.Node).Profiles)
	}
	return nil
}

// names are those that a verb's argument may have, by its word in the usage.
func (s *session) names(ctx context.Context, app *cli.App, l lineSoFar, place string) []string {
	switch {
	case place == "NODE":
		return s.nodeNames(ctx)
	case place == "SERVICE" && strings.HasPrefix(l.path, "mk args"):
		return args.Services()
	case place == "SERVICE":
		return s.ofNode(func(n *operation.Node) []string { return serviceNames(n, l.command.Name == "logs") })
	case strings.HasPrefix(place, "OPTION"):
		return s.ofNode(func(n *operation.Node) []string { return optionNames(n, l.args[0], l.command.Name == "set") })
	case strings.HasPrefix(place, "ADDON"):
		return s.ofNode(addonNames)
	case strings.HasPrefix(place, "CERTIFICATE"):
		out := s.ofNode((*operation.Node).Profiles)
		if place == "CERTIFICATE|ca" {
			out = append(out, "ca")
		}
		return out
	case strings.HasPrefix(place, "KIND/NAME"):
		return s.ofFolder(func(n *operation.Node) []string {
			lock, err := n.Dir.Lock()
			if err != nil {
				return nil
			}
			return pluginNames(lock)
		})
	case place == "N":
		return s.ofFolder(func(n *operation.Node) []string { return changeNumbers(n, l.command.Name) })
	case place == "NAME|FILE":
		return s.ofNode(snapshotNames)
	case place == "KEY":
		return settingNames()
	case place == "VALUE":
		return settingValues(l.args[0])
	case place == "AREA":
		return observe.Areas()
	case place == "VERB|TOPIC":
		return append(verbs(app.Commands), slices.Sorted(maps.Keys(topics()))...)
	case strings.ToLower(place) == place: // the words themselves
		return strings.Split(place, "|")
	}
	return nil
}

// ofNode reads names from a node that was started; no node has none.
func (s *session) ofNode(names func(*operation.Node) []string) (out []string) {
	_ = s.open("completion", func(n *operation.Node) error { // whatever it is, there are no names
		out = names(n)
		return nil
	})
	return out
}

// ofFolder is ofNode where the node need not have been started.
func (s *session) ofFolder(names func(*operation.Node) []string) (out []string) {
	_ = s.openFolder("completion", func(n *operation.Node) error { // whatever it is, there are no names
		out = names(n)
		return nil
	})
	return out
}

// nodeNames are the cluster's nodes where the API server answers in time, else
// this one.
func (s *session) nodeNames(ctx context.Context) []string {
	return s.ofNode(func(n *operation.Node) []string {
		own := []string{n.Record.Name}
		if n.Record.Stopped {
			return own
		}
		client, err := n.Kube()
		if err != nil {
			return own
		}
		ctx, cancel := context.WithTimeout(ctx, completionLimit*3/4)
		defer cancel()
		all, err := client.Nodes(ctx)
		if err != nil {
			return own
		}
		out := make([]string, 0, len(all))
		for _, x := range all {
			out = append(out, x.Name)
		}
		return out
	})
}

func serviceNames(n *operation.Node, logs bool) []string {
	return slices.DeleteFunc(n.LogNames(), func(name string) bool { return name == "mk" && !logs })
}

func optionNames(n *operation.Node, service string, set bool) []string {
	all, err := n.Arguments([]string{service})
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(all))
	for _, a := range all {
		name := a.Option
		if set {
			name += "="
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func addonNames(n *operation.Node) []string {
	all, err := n.Addons()
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(all))
	for _, a := range all {
		out = append(out, a.Name)
	}
	return out
}

func snapshotNames(n *operation.Node) []string {
	all, err := recovery.Of(n).Snapshots()
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(all))
	for _, i := range all {
		out = append(out, i.Name)
	}
	return out
}

// changeNumbers are the changes that a verb can be about.
func changeNumbers(n *operation.Node, verb string) []string {
	all, err := operation.Records(n.Root)
	if err != nil {
		return nil
	}
	var out []string
	for _, r := range slices.Backward(all) {
		open := r.State == operation.Open || r.State == operation.Paused
		if verb == "show" || verb == "undo" && r.State == operation.Done || verb != "undo" && open {
			out = append(out, strconv.Itoa(r.Number))
		}
	}
	return out
}

func settingNames() []string {
	var out []string
	for _, k := range settings.Keys() {
		out = append(out, k.Name)
	}
	return out
}

func settingValues(name string) []string {
	k, err := settings.Find(name)
	switch {
	case err != nil:
		return nil
	case k.Type == settings.Bool:
		return []string{"true", "false"}
	}
	return k.Choices
}
