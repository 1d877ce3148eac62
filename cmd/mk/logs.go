package main

import (
	"cmp"
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service/logfile"
)

func (s *session) logs() *cli.Command {
	return &cli.Command{
		Name: "logs", Aliases: []string{"log"}, Usage: "show the logs of services", ArgsUsage: "[SERVICE...]",
		Description: "mk logs kubelite -f\nmk logs --since 5m --level warning\nsudo mk logs etcd --all-nodes", UsageText: exitsRead + ", 5 some nodes do not answer",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on as lines are written, past rotation"},
			&cli.DurationFlag{Name: "since", Usage: "all lines written within this `TIME`, rotated ones too"},
			&cli.StringFlag{Name: "level", Usage: "only lines of this level and above: info, warning or error", Value: "info"},
			&cli.BoolFlag{Name: "all-nodes", Usage: "of every node, in the order of time"},
			&cli.StringFlag{Name: "node", Usage: "of another `NODE`"},
		},
		Action: func(c *cli.Context) error {
			where, err := whereOf(c)
			if err != nil {
				return err
			}
			q := operation.LogQuery{Services: c.Args().Slice(), Follow: c.Bool("follow"), Since: c.Duration("since")}
			if q.Level, err = levelOf(c.String("level")); err != nil {
				return err
			}
			if q.Since < 0 {
				return usage("--since cannot be %s: it is how long ago", q.Since)
			}
			if q.Follow && s.documents() {
				return usage("mk logs -f has no end, so it cannot be one document: leave -f or -o out")
			}
			if where.Far() {
				return s.farLogs(c, where, q)
			}
			return s.open("logs", func(n *operation.Node) error { return s.ownLogs(c.Context, n, q) })
		},
	}
}

func levelOf(word string) (logfile.Level, error) {
	if l, ok := logfile.ParseLevel(word); ok {
		return l, nil
	}
	return 0, usage("--level %q is not one of info, warning, error", word)
}

// logLine is a line of a log, for programs.
type logLine struct {
	Node    string    `json:"node,omitempty"`
	Service string    `json:"service"`
	Time    time.Time `json:"time,omitzero"`
	Level   string    `json:"level"`
	Text    string    `json:"text"`
}

// logView is how lines are shown.
type logView struct {
	s     *session
	named bool // which service a line is of
	lines []logLine
}

func (v *logView) show(e logfile.Entry) {
	if v.s.documents() {
		v.lines = append(v.lines, logLine{e.Node, e.Service, e.Time.UTC(), e.Level.String(), e.Text})
		return
	}
	prefix := ""
	if e.Node != "" {
		prefix = e.Node + " | "
	}
	if v.named {
		prefix += e.Service + " | "
	}
	v.s.printf("%s%s\n", printable(prefix), printable(e.Text))
}

// end is the document, where one was asked for.
func (v *logView) end() error {
	if !v.s.documents() {
		return nil
	}
	if v.lines == nil {
		v.lines = []logLine{}
	}
	return v.s.document(v.lines)
}

// ownLogs shows logs of this node.
func (s *session) ownLogs(ctx context.Context, n *operation.Node, q operation.LogQuery) error {
	logs, err := n.Logs(q)
	if err != nil {
		return err
	}
	v := &logView{s: s, named: len(logs.Services) > 1}
	for e, err := range logs.Lines() {
		if err != nil {
			return err
		}
		v.show(e)
	}
	if !q.Follow {
		return v.end()
	}
	return logs.Follow(ctx, v.show)
}

// farLogsWait is how long other nodes have to tell where --timeout does not say.
const farLogsWait = 2 * time.Minute

// farLogs shows logs of other nodes. Who does not answer is named at once, and
// ends nothing.
func (s *session) farLogs(c *cli.Context, w operation.Where, q operation.LogQuery) error {
	if err := s.root("logs"); err != nil { // other nodes are asked
		return err
	}
	if err := operation.CheckLogNames(q.Services); err != nil {
		return err
	}
	return s.open("logs", func(n *operation.Node) error {
		ctx := c.Context
		if limit := s.global.timeout; !q.Follow || limit > 0 {
			limited, cancel := context.WithTimeout(ctx, cmp.Or(limit, farLogsWait))
			defer cancel()
			ctx = limited
		}
		v, bad, only := &logView{s: s, named: len(q.Services) != 1}, 0, error(nil)
		asked, err := n.LogsOf(ctx, w, q, v.show, func(name string, err error) {
			bad++
			only = err
			if w.All {
				s.note("%s: %v", name, err)
			}
		})
		switch {
		case err != nil:
			return err
		case bad > 0 && !w.All:
			return only
		case !q.Follow && c.Context.Err() != nil:
			return c.Context.Err()
		}
		if err := v.end(); err != nil || bad == 0 {
			return err
		}
		return someNodes(len(asked)-bad, len(asked), "")
	})
}
