package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/settings"
)

func (s *session) changes() *cli.Command {
	since := func() cli.Flag {
		return &cli.StringFlag{Name: "since", Usage: "those begun within this `TIME`: 90s, 2m, 6h or 30d"}
	}
	return &cli.Command{
		Name: "changes", Aliases: []string{"change"}, Usage: "list, show, undo and abort what mk did",
		Description: "mk changes\nmk changes --since 1d\nsudo mk changes undo 12", UsageText: exitsFar,
		Flags: []cli.Flag{since()}, Action: s.listChanges,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list every operation, newest last", Description: "mk changes list\nsudo mk changes list --all-nodes", UsageText: exitsFar,
				Flags: []cli.Flag{since(), &cli.BoolFlag{Name: "all-nodes", Usage: "of every node, the newest"}}, Action: s.listChanges},
			{Name: "show", Usage: "show one operation and what it wrote on this node", ArgsUsage: "N", Description: "mk changes show 12", UsageText: exitsRead, Action: s.showChange},
			{Name: "undo", Usage: "take the newest finished operation back", ArgsUsage: "N", Description: "sudo mk changes undo 12", UsageText: exitsWait, Action: s.numbered(s.undoChange)},
			{Name: "abort", Usage: "give an open operation up", ArgsUsage: "N", Description: "sudo mk changes abort 12", UsageText: exitsUsual, Action: s.numbered(func(c *cli.Context, n *operation.Node, number int) error { return n.AbortOperation(c.Context, number) })},
			{Name: "pause", Usage: "leave an open operation alone until it is resumed", ArgsUsage: "N", Description: "sudo mk changes pause 12", UsageText: exitsUsual, Action: s.numbered(func(c *cli.Context, n *operation.Node, number int) error {
				return n.PauseOperation(c.Context, number, true)
			})},
			{Name: "resume", Usage: "go on with a paused operation at the next command", ArgsUsage: "N", Description: "sudo mk changes resume 12", UsageText: exitsUsual, Action: s.numbered(func(c *cli.Context, n *operation.Node, number int) error {
				return n.PauseOperation(c.Context, number, false)
			})},
		},
	}
}

func (s *session) listChanges(c *cli.Context) error {
	if c.Bool("all-nodes") && c.IsSet("since") {
		return usage("--since and --all-nodes cannot be meant together: of every node, the newest are shown")
	}
	if c.Bool("all-nodes") {
		if err := s.root("changes list"); err != nil { // other nodes are asked
			return err
		}
		return s.open("changes", func(n *operation.Node) error {
			return lookFar(s, c, n, operation.Where{All: true}, operation.LookChanges, nil, "N\tWHEN\tWHO\tVERB\tSTATE\tERROR", func(all []*operation.Record) []string {
				rows := make([]string, 0, len(all))
				for _, r := range all {
					rows = append(rows, fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%.60s", r.Number, r.Began.Local().Format(time.DateTime), r.User, r.Verb, r.State, r.Error))
				}
				return rows
			})
		})
	}
	since, err := settings.ParseDuration(cmp.Or(c.String("since"), "0"))
	if err != nil {
		return usage("--since %q %s", c.String("since"), err.Error())
	}
	return s.openFolder("changes", func(n *operation.Node) error {
		all, err := operation.Records(n.Root)
		if err != nil {
			return err
		}
		if from := n.Now().Add(-since); since > 0 {
			all = slices.DeleteFunc(all, func(r *operation.Record) bool { return r.Began.Before(from) })
		}
		return s.show(all, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "N\tWHEN\tWHO\tVERB\tSTATE\tCHANGES\tERROR")
			for _, r := range all {
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%.60s\n", r.Number, r.Began.Local().Format(time.DateTime), r.User, r.Verb, r.State, r.Changes, r.Error)
			}
			return t.Flush()
		})
	})
}

// shownChange is an operation with what it left on this node.
type shownChange struct {
	operation.Record
	Written []change.Line `json:"written,omitempty"`
}

// words are what somebody typed, or the verb where nobody did.
func (r shownChange) words() string {
	if len(r.Command) < 2 {
		return "mk " + r.Verb
	}
	return "mk " + strings.Join(r.Command[1:], " ")
}

func (s *session) showChange(c *cli.Context) error {
	number, err := changeNumber(c)
	if err != nil {
		return err
	}
	return s.openFolder("changes", func(n *operation.Node) error {
		all, err := operation.Records(n.Root)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(r *operation.Record) bool { return r.Number == number })
		if i < 0 {
			return &operation.UnknownError{Reason: operation.ChangeUnknown, What: "change", Name: strconv.Itoa(number)}
		}
		r := shownChange{Record: *all[i]}
		for k := range r.Steps {
			r.Steps[k].Next.State = nil // treated like a secret file
		}
		if r.Written, err = change.Written(n.Root, number); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return s.show(r, func(w io.Writer) error {
			fmt.Fprintf(w, "change %d: %s, by %s (pid %d), %s\n", r.Number, r.words(), r.User, r.PID, r.State)
			for _, st := range r.Steps {
				took := "not finished"
				if !st.Ended.IsZero() {
					took = st.Ended.Sub(st.Began).Round(time.Millisecond).String()
				}
				fmt.Fprintf(w, "  %-40s %s\n", st.Name, took)
			}
			if len(r.Written) > 0 {
				fmt.Fprintln(w, "written")
			}
			for _, l := range r.Written {
				fmt.Fprintf(w, "  %-8s %s\n", l.Verb, l.Target)
			}
			if r.Error != "" {
				fmt.Fprintf(w, "error %s\n", r.Error)
			}
			return nil
		})
	})
}

func changeNumber(c *cli.Context) (int, error) {
	n, err := strconv.Atoi(c.Args().First())
	if c.Args().Len() != 1 || err != nil || n < 1 {
		return 0, usage("mk changes %s needs the number of a change: mk changes", c.Command.Name)
	}
	return n, nil
}

// numbered is a verb on one operation that needs root.
func (s *session) numbered(do func(*cli.Context, *operation.Node, int) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		number, err := changeNumber(c)
		if err != nil {
			return err
		}
		if err := s.root("changes " + c.Command.Name); err != nil {
			return err
		}
		return s.openFolder("changes", func(n *operation.Node) error {
			if s.global.dryRun {
				return s.showPlan(&operation.Plan{Then: []string{fmt.Sprintf("%s change %d", c.Command.Name, number)}})
			}
			return do(c, n, number)
		})
	}
}

// undoChange takes a change back and waits until the node works without it.
func (s *session) undoChange(c *cli.Context, n *operation.Node, number int) error {
	ctx, cancel := s.bounded(c)
	defer cancel()
	if err := n.UndoOperation(ctx, number); err != nil {
		return err
	}
	return s.well(ctx, n, 0)
}
