package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// Argument is an option of a service's args file.
type Argument struct {
	Service string `json:"service"`
	Option  string `json:"option"`
	Value   string `json:"value,omitempty"`
}

// Arguments lists the options of services; without names, of all.
func (n *Node) Arguments(services []string) ([]Argument, error) {
	if len(services) == 0 {
		services = n.ArgumentFiles()
	}
	out := []Argument{}
	for _, name := range services {
		if !args.ValidService(name) {
			return nil, plugin.Errorf(plugin.BadArgument, "there is no service %.80q with arguments", name)
		}
		f, err := args.Load(n.Root.Args(name))
		if err != nil {
			return nil, err
		}
		for _, o := range f.Options() {
			out = append(out, Argument{name, o.Name, o.Value})
		}
	}
	return out, nil
}

// What other nodes look at.
const (
	LookArguments    = "args"
	LookCertificates = "certs"
	LookPlugins      = "plugins"
	LookChanges      = "changes"
)

// shownChanges is how many operations another node is told of.
const shownChanges = 50

// Show answers what another node asks to see. It changes nothing and starts no
// plugin.
func (n *Node) Show(what string, words []string) (any, error) {
	switch what {
	case LookArguments:
		files := n.ArgumentFiles()
		words = slices.DeleteFunc(slices.Clone(words), func(s string) bool { return args.ValidService(s) && !slices.Contains(files, s) })
		if len(words) == 0 {
			return []Argument{}, nil
		}
		return n.Arguments(words)
	case LookCertificates:
		return n.Certificates()
	case LookPlugins:
		return n.Dir.List()
	case LookChanges:
		all, err := Records(n.Root)
		all = all[max(0, len(all)-shownChanges):]
		for _, r := range all {
			// They may hold secrets.
			r.Params = nil
			for i := range r.Steps {
				r.Steps[i].Next.State = nil
			}
		}
		return all, err
	}
	return nil, plugin.Errorf(plugin.BadArgument, "there is no %.40q to look at", what)
}

// Looked is what one node answered.
type Looked struct {
	Node   string
	Answer json.RawMessage
	Err    error
}

// LookAt asks the agents of nodes, this one's included, to look at something.
// A node that does not answer is one whose error is set.
func (n *Node) LookAt(ctx context.Context, where Where, what string, words []string) ([]Looked, error) {
	if err := n.checkFar(ctx, where); err != nil {
		return nil, err
	}
	members, options, err := n.selected(ctx, where)
	if err != nil {
		return nil, err
	}
	var out []Looked
	AskMembers(ctx, options, members, peer.LookPath, peer.Look{What: what, Words: words}, func(name string, answer json.RawMessage, err error) {
		if err != nil {
			err = fmt.Errorf("ask %s: %w", name, err)
		}
		out = append(out, Looked{Node: name, Answer: answer, Err: err})
	})
	slices.SortFunc(out, func(a, b Looked) int { return strings.Compare(a.Node, b.Node) })
	return out, nil
}
