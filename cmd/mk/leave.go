package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
)

// leave takes this node out of its cluster.
func (s *session) leave() *cli.Command {
	return &cli.Command{
		Name: "leave", Usage: "take this node out of its cluster",
		Description: "sudo mk leave", UsageText: exitsUsual + ", 6 needs --yes",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "also where the cluster cannot be told, or the last copy of the data goes"},
			&cli.BoolFlag{Name: "no-drain", Usage: "do not move its pods elsewhere first"},
		},
		Action: func(c *cli.Context) error {
			if err := s.root("leave"); err != nil {
				return err
			}
			return s.openFolder("leave", func(n *operation.Node) error {
				name, typed := "the node", ""
				if n.Record != nil {
					name, typed = n.Record.Name, n.Record.Name
				} else if open, err := n.Journal.Open(); err != nil {
					return err
				} else if open == nil || open.Verb != "join" {
					return fmt.Errorf("%s: %w", s.global.root, operation.ErrNoNode)
				}
				if s.global.dryRun {
					return s.showPlan(&operation.Plan{Then: []string{
						"drain the node", "have the datastore saved", "leave the datastore", "have the cluster forget " + name, "remove what is the cluster's from this machine"}})
				}
				if c.Bool("force") {
					if err := s.agree("The node goes without being drained from a healthy cluster; data that only it holds is lost.", typed); err != nil {
						return err
					}
				}
				ctx, cancel := s.bounded(c)
				defer cancel()
				if err := membership.Of(n).Leave(ctx, membership.LeaveOptions{Force: c.Bool("force"), NoDrain: c.Bool("no-drain")}); err != nil {
					return cannotLeave(err, name)
				}
				return s.show(map[string]string{"node": name, "state": "left"}, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s has left; nothing of the cluster is on this machine\n", name)
					return err
				})
			})
		},
	}
}

// cannotLeave says of nodes that did not answer what they were to do.
func cannotLeave(err error, node string) error {
	e, ok := errors.AsType[*membership.SilentError](err)
	if !ok {
		return err
	}
	return silentProblem(e, "leave", "mk leave, when one of them answers",
		"mk leave --force goes without telling them; then on another node: mk remove-node "+node+" --force")
}

// silentProblem says who did not answer, and at which step.
func silentProblem(e *membership.SilentError, verb string, next ...string) *problem {
	var silent []string
	for line := range strings.Lines(e.Err.Error()) {
		if _, who, ok := strings.Cut(line, "https://"); ok { // after who was asked
			line = who
		}
		silent = append(silent, strings.TrimSpace(line))
	}
	what, why, _ := strings.Cut(silent[0], ": ")
	if _, _, ok := strings.Cut(e.Err.Error(), "https://"); !ok { // who was asked answers, for others that do not
		what, why = "a node of the cluster cannot do it now", silent[0]
	}
	if len(silent) > 1 {
		what, why = "no node of the cluster answers", strings.Join(silent, "; ")
	}
	p := &problem{Reason: string(peer.Unreachable), Message: "cannot " + verb + ": " + what, Why: fmt.Sprintf("at the step %q: %s", e.Step, why),
		Next: next, exit: exitNotReady, err: e}
	if e.Open {
		p.Changed, p.state = true, "the "+verb+" goes on where it stopped"
	}
	return p
}
