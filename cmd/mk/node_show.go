package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
)

// shownView is a node in full, as documents have it.
type shownView struct {
	shownNode
	Addresses []string          `json:"addresses"`
	Joined    time.Time         `json:"joined,omitzero"`
	Labels    map[string]string `json:"labels"`
	Taints    []string          `json:"taints"`
}

// nodeShow shows one node.
func (s *session) nodeShow(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk node show: which node? mk node list names them")
	}
	return s.open("node show", func(n *operation.Node) error {
		ctx, cancel := s.bounded(c)
		defer cancel()
		v, err := membership.Of(n).View(ctx, c.Args().First())
		if err != nil {
			return err
		}
		out := shownView{shownNode: showNode(v.Object), Addresses: []string{}, Labels: v.Object.Labels, Taints: []string{}}
		for _, t := range v.Object.Taints {
			out.Taints = append(out.Taints, t.Key+"="+t.Value+":"+t.Effect)
		}
		for _, a := range v.Object.Addresses {
			if a.Type == "InternalIP" {
				out.Addresses = append(out.Addresses, a.Address)
			}
		}
		if v.Record != nil {
			reports, err := n.Reports(ctx)
			if err != nil {
				return err
			}
			out.add(v.Record, reports[v.Record.Name])
			out.Joined = v.Record.Joined
			for _, a := range append([]string{v.Record.Address}, v.Record.Addresses...) {
				if !slices.Contains(out.Addresses, a) {
					out.Addresses = append(out.Addresses, a)
				}
			}
		}
		return s.show(out, func(w io.Writer) error { return printView(w, &out) })
	})
}

func printView(w io.Writer, v *shownView) error {
	ready := "yes"
	if !v.Ready {
		ready = "no: " + word(v.Reason, "not known why")
	}
	fmt.Fprintf(w, "node       %s\nready      %s\nrole       %s\naddresses  %s\n", v.Name, ready, rolesText(v.shownNode), strings.Join(v.Addresses, ", "))
	fmt.Fprintf(w, "kubelet    %s\nmk         %s\n", v.Version, word(v.Versions["mk"], "not known"))
	if !v.Joined.IsZero() {
		fmt.Fprintf(w, "joined     %s\n", v.Joined.Local().Format(time.DateTime))
	}
	fmt.Fprintf(w, "plugins    %s\n", word(pluginsText(v.shownNode), "none"))
	fmt.Fprintf(w, "contact    %s\n", seenText(v.shownNode))
	fmt.Fprintf(w, "drift      %s\n", driftText(v.shownNode))
	for _, d := range v.Drift {
		fmt.Fprintf(w, "           %s\n", d)
	}
	if v.Error != "" {
		fmt.Fprintf(w, "           cannot do what the cluster wants: %s\n", v.Error)
	}
	fmt.Fprintf(w, "taints     %s\n", word(strings.Join(v.Taints, ", "), "none"))
	for i, k := range slices.Sorted(maps.Keys(v.Labels)) {
		name := ""
		if i == 0 {
			name = "labels"
		}
		fmt.Fprintf(w, "%-10s %s=%s\n", name, k, v.Labels[k])
	}
	return nil
}
