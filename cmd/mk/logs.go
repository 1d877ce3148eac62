package main

import (
	"iter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service/logfile"
)

// lastLines is how much is shown of each log where --since does not say.
const lastLines = 100

func (s *session) logs() *cli.Command {
	return &cli.Command{
		Name: "logs", Aliases: []string{"log"}, Usage: "show the logs of services", ArgsUsage: "[SERVICE...]",
		Description: "mk logs kubelite -f\nmk logs --since 5m --level warning", UsageText: exitsRead,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on as lines are written, past rotation"},
			&cli.DurationFlag{Name: "since", Usage: "all lines written within this `TIME`, rotated ones too"},
			&cli.StringFlag{Name: "level", Usage: "only lines of this level and above: info, warning or error", Value: "info"},
		},
		Action: func(c *cli.Context) error {
			v := logView{s: s, follow: c.Bool("follow"), since: c.Duration("since"), now: time.Now()}
			var err error
			if v.level, err = levelOf(c.String("level")); err != nil {
				return err
			}
			if v.since < 0 {
				return usage("--since cannot be %s: it is how long ago", v.since)
			}
			if v.follow && s.documents() {
				return usage("mk logs -f has no end, so it cannot be one document: leave -f or -o out")
			}
			return s.open("logs", func(n *operation.Node) error {
				if v.names, err = n.LogNames(c.Args().Slice()); err != nil {
					return err
				}
				return v.show(c, n)
			})
		},
	}
}

func levelOf(word string) (logfile.Level, error) {
	for _, l := range []logfile.Level{logfile.Info, logfile.Warning, logfile.Error} {
		if l.String() == word {
			return l, nil
		}
	}
	return 0, usage("--level %q is not one of info, warning, error", word)
}

// logView is what of the logs is shown.
type logView struct {
	s      *session
	names  []string
	follow bool
	since  time.Duration
	level  logfile.Level
	now    time.Time
}

// logLine is a line of a log, for programs.
type logLine struct {
	Service string    `json:"service"`
	Time    time.Time `json:"time,omitzero"`
	Level   string    `json:"level"`
	Text    string    `json:"text"`
}

func (v *logView) keep(e logfile.Entry) bool { return e.Level >= v.level }

func (v *logView) show(c *cli.Context, n *operation.Node) error {
	readers := map[string]*logfile.Reader{}
	var logs []iter.Seq2[logfile.Entry, error]
	for _, name := range v.names {
		path := n.Root.Logs(name)
		readers[path] = logfile.NewReader(name, v.now)
		log, err := v.log(path, logfile.NewReader(name, v.now))
		if err != nil {
			return err
		}
		logs = append(logs, log)
	}
	lines := []logLine{}
	for e, err := range logfile.Merge(logs...) {
		switch {
		case err != nil:
			return err
		case !v.keep(e):
		case v.s.documents():
			lines = append(lines, logLine{e.Service, e.Time.UTC(), e.Level.String(), e.Text})
		default:
			v.print(e)
		}
	}
	if v.s.documents() {
		return v.s.document(lines)
	}
	if !v.follow {
		return nil
	}
	return logfile.Follow(c.Context, n.Root.Path("var/log"), readers, func(e logfile.Entry) {
		if v.keep(e) {
			v.print(e)
		}
	})
}

// log is what is shown of one log before it is followed.
func (v *logView) log(path string, r *logfile.Reader) (iter.Seq2[logfile.Entry, error], error) {
	if v.since > 0 {
		return logfile.Since(path, r, v.now.Add(-v.since)), nil
	}
	last, err := logfile.Last(path, r, lastLines, v.keep)
	return func(yield func(logfile.Entry, error) bool) {
		for _, e := range last {
			if !yield(e, nil) {
				return
			}
		}
	}, err
}

func (v *logView) print(e logfile.Entry) {
	prefix := ""
	if len(v.names) > 1 {
		prefix = e.Service + " | "
	}
	v.s.printf("%s%s\n", prefix, printable(e.Text))
}
