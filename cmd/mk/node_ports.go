package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/node"
)

// nft is the format that only the list of ports has.
const nft = "nft"

// nodePorts prints what a firewall must let through, also where there is no
// node yet: a join may need it.
func (s *session) nodePorts(c *cli.Context) error {
	options, err := s.options("node ports")
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	f, err := membership.FirewallOf(ctx, options)
	if err != nil {
		return err
	}
	if s.global.output == nft {
		s.printf("%s", f.Nft())
		return nil
	}
	return s.show(f.Ports, func(w io.Writer) error { return printPorts(w, f.Ports) })
}

func printPorts(w io.Writer, ports []defaults.Port) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "PORT\tSERVICE\tFROM")
	for _, p := range ports {
		fmt.Fprintf(t, "%d/%s\t%s\t%s\n", p.Number, p.Protocol, p.Service, p.From)
	}
	return t.Flush()
}

// helpPorts is the list of a control-plane node as it comes.
func helpPorts() string {
	out, loopback := "Ports of a node, and who speaks to them\n", "On loopback only:"
	network := node.DefaultNetwork()
	for _, p := range defaults.Ports(node.ControlPlane, network, network.AgentPort) {
		if p.From == defaults.FromLoopback {
			loopback += fmt.Sprintf(" %d", p.Number)
			continue
		}
		out += fmt.Sprintf("  %-10s %-22s %s\n", fmt.Sprintf("%d/%s", p.Number, p.Protocol), p.Service, p.From)
	}
	return out + loopback + "\nA worker has no API server and no datastore.\nmk node ports lists this node's; mk node ports -o nft makes rules of it.\n"
}
