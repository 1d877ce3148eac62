package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/joinstring"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/plugin"
)

// join makes this machine a node of another one's cluster.
func (s *session) join() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "make this machine a node of a cluster", ArgsUsage: "STRING",
		Description: "sudo mk join 10.0.0.4:25000/…\nsudo mk join - --worker < string", UsageText: exitsUsual + ", 4 not ready in time",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "worker", Usage: "run pods and no control plane"},
			&cli.BoolFlag{Name: "no-vote", Usage: "run a control plane, and no member of the datastore: its API server uses the others'"},
			&cli.BoolFlag{Name: "controlplane", Usage: "run a control plane (the default)", Hidden: true},
			&cli.BoolFlag{Name: "skip-verify", Usage: "take whoever answers at the address, whatever its key"},
			&cli.StringFlag{Name: "name", Usage: "the node's `NAME` (default: the host's)"},
			&cli.StringFlag{Name: "address", Usage: "the `ADDRESS` that other nodes use (default: that of the default route)"},
			&cli.StringSliceFlag{Name: "labels", Usage: "labels of the node: `KEY=VALUE,...`"},
			&cli.StringSliceFlag{Name: "taints", Usage: "taints of the node: `KEY=VALUE:EFFECT,...`"},
			&cli.StringFlag{Name: "zone", Usage: "the `ZONE` that the node stands in"},
			&cli.BoolFlag{Name: "renew", Usage: "bring a worker back whose certificates have all ended: it keeps name and pods"},
			&cli.BoolFlag{Name: "disable-at-boot", Usage: "do not start again with the machine"},
		},
		Action: func(c *cli.Context) error {
			o, err := s.joinOptions(c)
			if err != nil {
				return err
			}
			if err := s.root("join"); err != nil {
				return err
			}
			if c.Bool("renew") {
				return s.renewJoin(c, o)
			}
			return s.doJoin(c, o)
		},
	}
}

func (s *session) joinOptions(c *cli.Context) (membership.JoinOptions, error) {
	o := membership.JoinOptions{
		Worker: c.Bool("worker"), NoVote: c.Bool("no-vote"), SkipVerify: c.Bool("skip-verify"), Name: c.String("name"),
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
	if o.Worker && o.NoVote {
		return o, usage("--worker and --no-vote exclude each other: a worker has no datastore")
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
	report, err := membership.Preflight(ctx, options, o)
	if s.global.dryRun {
		return s.showPreflight(report, membership.JoinSteps(o.Worker), cannotJoin(err, unchanged))
	}
	if !s.global.quiet && s.global.progress != "none" {
		printPreflight(printableWriter{s.err}, report)
	}
	if err != nil {
		return cannotJoin(err, unchanged)
	}
	n, err := operation.CreateNode(options)
	if err != nil {
		return err
	}
	err = joinClose(membership.Of(n).Join(ctx, o), n)
	if errors.Is(err, membership.ErrTakenBack) {
		s.note("%v: it begins anew", err)
		return s.doJoin(c, o)
	}
	if err != nil {
		return cannotJoin(err, "")
	}
	return s.showJoined(n, "joined as")
}

// renewJoin gives a worker new certificates in place of those that have ended.
func (s *session) renewJoin(c *cli.Context, o membership.JoinOptions) error {
	for _, flag := range []string{"name", "address", "labels", "taints", "zone", "controlplane"} {
		if c.IsSet(flag) {
			return usage("--renew keeps what the node is: leave out --%s", flag)
		}
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	return nothingToRenew(s.open("join", func(n *operation.Node) error {
		if s.global.dryRun {
			return s.showPlan(&operation.Plan{Then: membership.RenewSteps()})
		}
		if err := membership.Of(n).RenewJoin(ctx, o); err != nil {
			return cannotJoin(err, "")
		}
		return s.showJoined(n, "is back as")
	}))
}

// nothingToRenew says of a machine without a node of mk that it has nothing to
// renew: a worker of MicroK8s, which joined with its own program, above all.
func nothingToRenew(err error) error {
	if !errors.Is(err, operation.ErrNoNode) {
		return err
	}
	return &problem{Reason: "NO_NODE", Message: "cannot renew: mk runs no node on this machine", exit: exitFailed, state: unchanged, err: err,
		Why:  "a node of MicroK8s that joined a cluster of mk keeps its own certificates, and mk has none of them",
		Next: []string{"on a node of MicroK8s: microk8s leave, then microk8s join with a new string", "on a machine that is to join: the same without --renew"}}
}

func (s *session) showJoined(n *operation.Node, how string) error {
	result := struct {
		Node    string `json:"node"`
		Address string `json:"address"`
		Role    string `json:"role"`
		Ready   bool   `json:"ready"`
	}{n.Record.Name, n.Record.Address, string(n.Record.Role), true}
	return s.show(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s a %s node at %s and is ready\n", result.Node, how, result.Role, result.Address)
		return err
	})
}

// showPreflight shows what a dry run found: what only the other side knows was
// not asked.
func (s *session) showPreflight(r *membership.Report, steps []string, problem error) error {
	doc := struct {
		*membership.Report
		Then []string `json:"then"`
	}{r, steps}
	return errors.Join(s.show(doc, func(w io.Writer) error {
		printPreflight(w, r)
		writePlan(w, &operation.Plan{Then: steps})
		_, err := fmt.Fprintln(w, "dry run: nothing was changed")
		return err
	}), problem)
}

func printPreflight(w io.Writer, r *membership.Report) {
	if r.Resumed {
		fmt.Fprintln(w, "a join was interrupted here: it goes on")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.Check, row.Verdict, row.Found)
	}
	_ = t.Flush() // a terminal, or the output of show, which keeps its error
}

// cannotJoin says of what a join was refused for that it is about the join. An
// empty state leaves open what became of it.
func cannotJoin(err error, state string) error {
	if skew, ok := errors.AsType[*membership.SkewError](err); ok {
		return skewProblem(skew)
	}
	if ports, ok := errors.AsType[*membership.PortsError](err); ok {
		return portsProblem(ports)
	}
	if silent, ok := errors.AsType[*membership.SilentError](err); ok {
		p := silentProblem(silent, "join", "the same mk join, when it answers: the token is not spent")
		if !silent.Open {
			p.state = "nothing is left here; what the other side holds for this join goes with the next try, or 10 minutes after the last word"
		}
		return p
	}
	e, ok := errors.AsType[*plugin.Error](err)
	if !ok {
		return err
	}
	p := pluginProblem(e)
	what, why, _ := strings.Cut(e.Message, ": ")
	p.Message, p.Why, p.err = "cannot join: "+what, why, err
	switch e.Reason {
	case plugin.TokenUsed, plugin.TokenExpired, plugin.TokenUnknown, plugin.TokenReserved, membership.NameTaken, membership.NotPermitted, membership.ClockSkew:
		state = "nothing was changed here or there"
	}
	p.state = state
	return p
}

func skewProblem(e *membership.SkewError) *problem {
	p := &problem{Reason: string(membership.ClockSkew), Message: "cannot join: clocks are " + e.Apart() + " apart", exit: exitFailed, state: unchanged, err: e,
		Why: fmt.Sprintf("here %s, %s %s; ", e.Here.Format("15:04 UTC"), e.Node, e.There.Format("15:04 UTC"))}
	set := "date -u -s '" + e.There.Format("2006-01-02 15:04") + "'"
	if e.Here.Before(e.There) {
		p.Why += "certificates made there would not be valid here yet"
	} else {
		p.Why += "certificates made there would end too early here"
	}
	p.Next = []string{"timedatectl set-ntp true      or, without a time server:  " + set}
	return p
}

func portsProblem(e *membership.PortsError) *problem {
	p := &problem{Reason: string(membership.NotReached), Message: "cannot join: " + e.Error(), exit: exitFailed, state: unchanged, err: e}
	var why []string
	if len(e.Open) > 0 {
		why = append(why, strings.Join(e.Open, ", ")+" open")
	}
	for _, c := range e.Closed[:min(len(e.Closed), 5)] {
		text := fmt.Sprintf("%d/tcp %s -> %s: %s", c.Port, c.From, c.Address, c.Why)
		if strings.HasPrefix(c.Why, "no answer") {
			text += " (a firewall drops it?)"
		}
		why = append(why, text)
	}
	p.Why = strings.Join(why, "; ")
	p.Next = []string{"mk node ports -o nft         then the same join again: the token is not spent"}
	return p
}
