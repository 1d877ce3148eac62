package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

// farWait is how long a command waits for other nodes where --timeout does not
// say: control-plane nodes restart one after the other.
const farWait = 5 * time.Minute

const (
	exitsSome = ", 5 done on some nodes"
	exitsFar  = exitsUsual + exitsSome
)

// whereOf reads --node, --all-nodes and, where a verb has it, --local.
func whereOf(c *cli.Context) (operation.Where, error) {
	w := operation.Where{All: c.Bool("all-nodes"), Node: c.String("node"), Local: c.Bool("local")}
	set := 0
	for _, is := range []bool{w.All, w.Node != "", w.Local} {
		if is {
			set++
		}
	}
	if set > 1 {
		return w, usage("only one of --node, --all-nodes and --local can be meant")
	}
	return w, nil
}

// errSomeNodes ends a step that was not done everywhere.
var errSomeNodes = errors.New("not done on all nodes") //nolint:gochecknoglobals // a constant

// farWords says on which nodes something is done.
func farWords(w operation.Where) string {
	if w.Node != "" {
		return "on " + w.Node
	}
	return "on every node, as it comes to it"
}

// far makes something wanted of other nodes and waits for them.
func (s *session) far(c *cli.Context, n *operation.Node, w operation.Where, what string, wish func(context.Context) (int, error)) error {
	if s.global.dryRun {
		return s.showPlan(&operation.Plan{Then: []string{what + " " + farWords(w)}})
	}
	ctx, cancel := context.WithTimeout(c.Context, cmp.Or(s.global.timeout, farWait))
	defer cancel()
	generation, err := wish(ctx)
	if err != nil || s.global.noWait {
		return err
	}
	progress := s.newProgress()
	n.Progress = progress
	progress.Begin(what)
	began := time.Now()
	all, err := n.AwaitWanted(ctx, generation, w)
	progress.End(what, time.Since(began), cmp.Or(err, notDone(all)))
	if err := errors.Join(err, c.Context.Err()); err != nil {
		return err
	}
	return s.showOutcomes(all, "the cluster wants it: a node that comes back does it then")
}

// notDone is the error of a step that was not done everywhere.
func notDone(all []operation.Outcome) error {
	if slices.ContainsFunc(all, func(o operation.Outcome) bool { return !o.Done }) {
		return errSomeNodes
	}
	return nil
}

// showOutcomes says what became of something on each node, and, where it was
// not done on all, the state of it.
func (s *session) showOutcomes(all []operation.Outcome, state string) error {
	done := 0
	for _, o := range all {
		if o.Done {
			done++
		}
	}
	err := s.show(all, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, o := range all {
			state := "done"
			if !o.Done {
				state = "not done: " + o.Error
				if !o.Seen.IsZero() {
					state += ", last contact " + ago(o.Seen)
				}
			}
			fmt.Fprintf(t, "%s\t%s\n", o.Node, state)
		}
		return t.Flush()
	})
	if err != nil || done == len(all) {
		return err
	}
	return someNodes(done, len(all), state)
}

// someNodes is the problem of what was not done everywhere.
func someNodes(done, all int, state string) *problem {
	p := &problem{Reason: "SOME_NODES", Message: fmt.Sprintf("done on %d of %d nodes", done, all), exit: exitSomeNodes, state: state, Changed: done > 0,
		Next: []string{"mk node", "on that node: mk logs mk --since 10m"}}
	if done == 0 {
		p.exit = exitFailed
	}
	return p
}

// ago says how long something is past.
func ago(at time.Time) string { return time.Since(at).Round(time.Second).String() + " ago" }

// nodeAnswer is what one node said.
type nodeAnswer[T any] struct {
	Node   string `json:"node"`
	Result T      `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

// farLook is how long other nodes have to answer where --timeout does not say.
const farLook = 20 * time.Second

// look asks the nodes for something that they only look at, and prints it with
// their names.
func lookFar[T any](s *session, c *cli.Context, n *operation.Node, w operation.Where, what string, words []string, head string, rows func(T) []string) error {
	ctx, cancel := context.WithTimeout(c.Context, cmp.Or(s.global.timeout, farLook))
	defer cancel()
	got, err := n.LookAt(ctx, w, what, words)
	if err != nil {
		return err
	}
	all, lines, done := []nodeAnswer[T]{}, [][]string{}, 0
	for _, g := range got {
		a := nodeAnswer[T]{Node: g.Node}
		if g.Err == nil {
			g.Err = json.Unmarshal(g.Answer, &a.Result)
		}
		if g.Err != nil {
			a.Error = g.Err.Error()
		} else {
			done++
		}
		all, lines = append(all, a), append(lines, rows(a.Result))
	}
	err = s.show(all, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "NODE\t"+head)
		for i, a := range all {
			if a.Error != "" {
				fmt.Fprintf(t, "%s\tno answer: %.150s\n", a.Node, a.Error)
			}
			for _, row := range lines[i] {
				fmt.Fprintf(t, "%s\t%s\n", a.Node, row)
			}
		}
		return t.Flush()
	})
	if err == nil && done < len(all) {
		return someNodes(done, len(all), "")
	}
	return err
}
