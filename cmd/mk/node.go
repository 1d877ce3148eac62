package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/clustering"
)

// nodeVerbs show the cluster's nodes and decide who joins.
func (s *session) nodeVerbs() *cli.Command {
	pending := func() cli.Flag {
		return &cli.BoolFlag{Name: "pending", Usage: "those whose join waits for a person, on the node that serves it"}
	}
	return &cli.Command{
		Name: "node", Aliases: []string{"nodes"}, Usage: "list nodes, and approve or deny those that want to join",
		Description: "mk node list\nsudo mk node list --pending\nsudo mk node approve node-b", UsageText: exitsUsual,
		Flags: []cli.Flag{pending()}, Action: s.listNodes,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the cluster's nodes", Description: "mk node list", UsageText: exitsUsual, Flags: []cli.Flag{pending()}, Action: s.listNodes},
			{Name: "show", Usage: "show one node", ArgsUsage: "NODE", Description: "mk node show node-b", UsageText: exitsRead, Action: s.nodeShow},
			{Name: "set", Usage: "set labels and taints of a node", ArgsUsage: "NODE", Description: "sudo mk node set --label tier=edge --taint edge=yes:NoSchedule node-b",
				UsageText: exitsUsual, Action: s.nodeSet, Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "label", Usage: "set a label, `KEY=VALUE`, or take it away, KEY-"},
					&cli.StringSliceFlag{Name: "taint", Usage: "set a taint, `KEY=VALUE:EFFECT`, or take it away, KEY:EFFECT- or KEY-"},
				}},
			{Name: "ports", Usage: "list the ports that a firewall must let through; -o nft: as rules", Description: "mk node ports\nmk node ports -o nft", UsageText: exitsRead, Action: s.nodePorts},
			{Name: "approve", Usage: "let a node join that waits, on the node that serves it", ArgsUsage: "NAME",
				Description: "sudo mk node approve node-b", UsageText: exitsUsual, Action: s.approveNode},
			{Name: "deny", Usage: "refuse a node that waits to join, on the node that serves it", ArgsUsage: "NAME",
				Description: "sudo mk node deny node-b --reason 'not ours'", UsageText: exitsUsual,
				Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "what the joining side is told: a `TEXT`"}}, Action: s.denyNode},
		},
	}
}

func (s *session) listNodes(c *cli.Context) error {
	if c.Bool("pending") {
		return s.listPending(c)
	}
	return s.open("node list", func(n *operation.Node) error {
		ctx, cancel := s.bounded(c)
		defer cancel()
		client, err := n.Kube()
		if err != nil {
			return err
		}
		all, err := client.Nodes(ctx)
		if err != nil {
			return err
		}
		shown := make([]shownNode, 0, len(all))
		for _, x := range all {
			shown = append(shown, showNode(x))
		}
		if shown, err = addRecords(ctx, n, shown); err != nil {
			return err
		}
		return s.show(shown, func(w io.Writer) error { return printNodes(w, shown) })
	})
}

// shownNode is a node as documents have it.
type shownNode struct {
	Name    string    `json:"name"`
	Ready   bool      `json:"ready"`
	Reason  string    `json:"reason,omitempty"`
	Drained bool      `json:"unschedulable"`
	Roles   []string  `json:"roles"`
	Address string    `json:"address,omitempty"`
	Version string    `json:"version"`
	Created time.Time `json:"created"`

	// By mk's own records, and what the node's agent says.
	State      string            `json:"state,omitempty"`  // joining, joined
	NoVote     bool              `json:"noVote,omitempty"` // it holds no part of the datastore
	Versions   map[string]string `json:"versions,omitempty"`
	Generation int               `json:"generation"` // of what the cluster wants, applied
	Error      string            `json:"error,omitempty"`
	Drift      []cluster.Drift   `json:"drift,omitempty"`
	Plugins    []cluster.Plugin  `json:"plugins,omitempty"`
	Seen       time.Time         `json:"lastContact,omitzero"`
}

// addRecords adds what mk knows of nodes; one that joins may be no node of
// Kubernetes yet.
func addRecords(ctx context.Context, n *operation.Node, shown []shownNode) ([]shownNode, error) {
	members, err := n.Members(ctx)
	if err != nil {
		return nil, err
	}
	reports, err := n.Reports(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		i := slices.IndexFunc(shown, func(x shownNode) bool { return x.Name == m.Name })
		if i < 0 {
			shown, i = append(shown, shownNode{Name: m.Name, Reason: "it is no node of Kubernetes", Address: m.Address, Created: m.Joined}), len(shown)
		}
		shown[i].add(m, reports[m.Name])
	}
	return shown, nil
}

// add is what mk's record of a node says, and its agent's report, if any.
func (x *shownNode) add(m *cluster.Member, r *cluster.Report) {
	x.State, x.Versions = string(m.State), m.Versions
	x.Roles, x.NoVote = []string{m.Role}, m.NoVote
	if r != nil {
		x.Versions, x.Generation, x.Error = r.Versions, r.Generation, r.Error
		x.Drift, x.Plugins, x.Seen = r.Drift, r.Plugins, r.At
	}
}

// rolesText says what a node is for, and that it has no vote in the datastore.
func rolesText(x shownNode) string {
	roles := x.Roles
	if x.NoVote {
		roles = append(slices.Clip(roles), "no vote")
	}
	return word(strings.Join(roles, ", "), "-")
}

// driftText says in few words how a node is not as the cluster wants it.
func driftText(x shownNode) string {
	switch {
	case x.Error != "":
		return "failed"
	case len(x.Drift) > 0:
		return fmt.Sprintf("%d", len(x.Drift))
	}
	return "none"
}

func showNode(n kube.Node) shownNode {
	out := shownNode{Name: n.Name, Ready: n.Ready, Drained: n.Unschedulable, Roles: append([]string{}, n.Roles...), Version: n.Version, Created: n.Created}
	if !n.Ready {
		out.Reason = n.Reason
	}
	for _, a := range n.Addresses {
		if a.Type == "InternalIP" && out.Address == "" {
			out.Address = a.Address
		}
	}
	return out
}

func printNodes(w io.Writer, all []shownNode) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tREADY\tROLE\tADDRESS\tVERSION\tMK\tDRIFT\tLAST CONTACT")
	for _, x := range all {
		ready := "yes"
		if !x.Ready {
			ready = "no: " + word(x.Reason, "not known why")
		}
		if x.Drained {
			ready += ", takes no pods"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Name, ready, rolesText(x), word(x.Address, "-"), word(x.Version, "-"),
			word(x.Versions["mk"], "-"), driftText(x), seenText(x))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printPlugins(w, all)
	for _, x := range all {
		if x.Error != "" {
			fmt.Fprintf(w, "%s cannot do what the cluster wants: %s\n", x.Name, x.Error)
		}
		for _, d := range x.Drift {
			fmt.Fprintf(w, "%s: %s\n", x.Name, d)
		}
	}
	return nil
}

// seenText says when a node's agent was heard of.
func seenText(x shownNode) string {
	if x.Seen.IsZero() {
		return "never"
	}
	return ago(x.Seen)
}

// printPlugins says which nodes run which plugins: one line where all run the
// same. Workers run none.
func printPlugins(w io.Writer, all []shownNode) {
	of, order := map[string][]string{}, []string{}
	for _, x := range all {
		text := pluginsText(x)
		if text == "" {
			continue
		}
		if of[text] == nil {
			order = append(order, text)
		}
		of[text] = append(of[text], x.Name)
	}
	for _, text := range order {
		fmt.Fprintf(w, "plugins of %s: %s\n", strings.Join(of[text], ", "), text)
	}
}

// pluginsText is a node's active plugins with their versions, each once.
func pluginsText(x shownNode) string {
	var out []string
	for _, p := range x.Plugins {
		if text := p.Kind + "/" + p.Name + " " + p.Version; !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// shownPending is a join that waits, as documents have it.
type shownPending struct {
	Name    string    `json:"name"`
	Address string    `json:"address"`
	Role    string    `json:"role"`
	Since   time.Time `json:"since"`
}

func (s *session) listPending(c *cli.Context) error {
	if err := s.root("node list --pending"); err != nil { // a plugin is asked
		return err
	}
	return s.open("node list", func(n *operation.Node) error {
		ctx, cancel := s.bounded(c)
		defer cancel()
		all, err := membership.Of(n).PendingJoins(ctx)
		if err != nil {
			return err
		}
		shown := make([]shownPending, 0, len(all))
		for _, j := range all {
			shown = append(shown, shownPending{Name: j.Name, Address: j.Address, Role: j.Role, Since: j.Since})
		}
		return s.show(shown, func(w io.Writer) error { return printPending(w, all, time.Now()) })
	})
}

func printPending(w io.Writer, all []clustering.PendingJoin, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tADDRESS\tROLE\tWAITS")
	for _, j := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", j.Name, j.Address, j.Role, now.Sub(j.Since).Round(time.Second))
	}
	return t.Flush()
}
