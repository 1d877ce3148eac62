package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/joinstring"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
)

// join makes this machine a node of another one's cluster.
func (s *session) join() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "make this machine a node of a cluster", ArgsUsage: "STRING",
		Description: "sudo mk join 10.0.0.4:25000/…\nsudo mk join - --worker < string", UsageText: exitsUsual + ", 4 not ready in time",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "worker", Usage: "run pods and no control plane"},
			&cli.BoolFlag{Name: "controlplane", Usage: "run a control plane (the default)", Hidden: true},
			&cli.BoolFlag{Name: "skip-verify", Usage: "take whoever answers at the address, whatever its key"},
			&cli.StringFlag{Name: "name", Usage: "the node's `NAME` (default: the host's)"},
			&cli.StringFlag{Name: "address", Usage: "the `ADDRESS` that other nodes use (default: that of the default route)"},
			&cli.StringSliceFlag{Name: "labels", Usage: "labels of the node: `KEY=VALUE,...`"},
			&cli.StringSliceFlag{Name: "taints", Usage: "taints of the node: `KEY=VALUE:EFFECT,...`"},
			&cli.StringFlag{Name: "zone", Usage: "the `ZONE` that the node stands in"},
			&cli.BoolFlag{Name: "disable-at-boot", Usage: "do not start again with the machine"},
		},
		Action: func(c *cli.Context) error {
			if err := s.root("join"); err != nil {
				return err
			}
			o, err := s.joinOptions(c)
			if err != nil {
				return err
			}
			return s.doJoin(c, o)
		},
	}
}

func (s *session) joinOptions(c *cli.Context) (membership.JoinOptions, error) {
	o := membership.JoinOptions{
		Worker: c.Bool("worker"), SkipVerify: c.Bool("skip-verify"), Name: c.String("name"),
		Address: c.String("address"), NoBoot: c.Bool("disable-at-boot"), Taints: c.StringSlice("taints"), Labels: map[string]string{},
	}
	if c.Args().Len() != 1 {
		p := usage("mk join needs one connection string")
		p.Next = []string{"on a node of the cluster: mk add-node"}
		return o, p
	}
	if o.Worker && c.Bool("controlplane") {
		return o, usage("--worker and --controlplane exclude each other")
	}
	text := c.Args().First()
	if text == "-" {
		line, err := bufio.NewReader(io.LimitReader(s.in, 4<<10)).ReadString('\n')
		if err != nil && line == "" {
			return o, usage("there is no connection string on standard input")
		}
		text = strings.TrimSpace(line)
	}
	i, err := joinstring.Parse(text)
	if err != nil {
		p := usage("%v", err)
		p.Next = []string{"on a node of the cluster: mk add-node"}
		return o, p
	}
	o.Server, o.Token, o.Fingerprint = net.JoinHostPort(i.Host, strconv.Itoa(i.Port)), i.Token, i.Fingerprint
	if o.Fingerprint == "" && !o.SkipVerify {
		p := usage("the connection string has no fingerprint: nobody could tell who answers")
		p.Next = []string{"take the whole string that mk add-node prints", "or, knowing the risk: --skip-verify"}
		return o, p
	}
	for _, t := range o.Taints {
		if _, err := membership.ParseTaint(t); err != nil {
			return o, usage("--taints: %v", err)
		}
	}
	for _, kv := range c.StringSlice("labels") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return o, usage("--labels %q is not KEY=VALUE", kv)
		}
		o.Labels[k] = v
	}
	if zone := c.String("zone"); zone != "" {
		o.Labels["topology.kubernetes.io/zone"] = zone
	}
	return o, nil
}

func (s *session) doJoin(c *cli.Context, o membership.JoinOptions) error {
	options, err := s.options("join")
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	if err := operation.Preflight(ctx, options, operation.StartOptions{Name: o.Name, Address: o.Address}); err != nil {
		return err
	}
	if s.global.dryRun {
		// What only the other side knows is not asked.
		return s.showPlan(&operation.Plan{Then: membership.JoinSteps(o.Worker)})
	}
	n, err := operation.CreateNode(options)
	if err != nil {
		return err
	}
	if err := joinClose(membership.Of(n).Join(ctx, o), n); err != nil {
		return err
	}
	result := struct {
		Node    string `json:"node"`
		Address string `json:"address"`
		Role    string `json:"role"`
		Ready   bool   `json:"ready"`
	}{n.Record.Name, n.Record.Address, string(n.Record.Role), true}
	return s.show(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s joined as a %s node at %s and is ready\n", result.Node, result.Role, result.Address)
		return err
	})
}
