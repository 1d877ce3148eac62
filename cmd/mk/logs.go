package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

// lastLines is how much is shown of each log where --since does not say.
const lastLines = 100

func (s *session) logs() *cli.Command {
	return &cli.Command{
		Name: "logs", Aliases: []string{"log"}, Usage: "show the logs of services", ArgsUsage: "[SERVICE...]",
		Description: "mk logs kubelite -f\nmk logs --since 5m", UsageText: exitsRead,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on as lines are written"},
			&cli.DurationFlag{Name: "since", Usage: "only files written to within this `TIME`, as a whole"},
			&cli.StringFlag{Name: "level", Usage: "only lines of this level and above: info, warning or error", Value: "info"},
		},
		Action: func(c *cli.Context) error {
			keep, err := levelFilter(c.String("level"))
			if err != nil {
				return err
			}
			return s.open("logs", func(n *operation.Node) error {
				names, err := n.LogNames(c.Args().Slice())
				if err != nil {
					return usage("%s", err.Error())
				}
				return s.showLogs(c, n, names, keep)
			})
		},
	}
}

// levelFilter keeps lines that look like a level or worse; how a level looks
// depends on the program.
func levelFilter(level string) (func(string) bool, error) {
	bad := []string{"level=error", "level=fatal", "[ERROR]", `"level":"error"`, `"level":"fatal"`, "panic:"}
	warn := append(slices.Clone(bad), "level=warn", "[WARN]", `"level":"warn"`)
	match := func(marks []string, klog string) func(string) bool {
		return func(line string) bool {
			if len(line) > 1 && strings.ContainsRune(klog, rune(line[0])) && line[1] >= '0' && line[1] <= '9' {
				return true
			}
			return slices.ContainsFunc(marks, func(m string) bool { return strings.Contains(line, m) })
		}
	}
	switch level {
	case "info":
		return func(string) bool { return true }, nil
	case "warning":
		return match(warn, "WEF"), nil
	case "error":
		return match(bad, "EF"), nil
	}
	return nil, usage("--level %q is not one of info, warning, error", level)
}

func (s *session) showLogs(c *cli.Context, n *operation.Node, names []string, keep func(string) bool) error {
	for _, name := range names {
		path := n.Root.Logs(name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", name, err)
		}
		if d := c.Duration("since"); d > 0 && time.Since(info.ModTime()) > d {
			continue
		}
		prefix := ""
		if len(names) > 1 {
			prefix = name + " | "
		}
		if err := s.showLog(path, prefix, c.Duration("since") > 0, keep); err != nil {
			return err
		}
	}
	if !c.Bool("follow") {
		return nil
	}
	return s.followLogs(c.Context, n, names, keep)
}

// showLog prints the end of a log, or all of it.
func (s *session) showLog(path, prefix string, whole bool, keep func(string) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read a log: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	var lines []string
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 64<<10), 4<<20)
	for sc.Scan() {
		if !keep(sc.Text()) {
			continue
		}
		lines = append(lines, sc.Text())
		if !whole && len(lines) > 2*lastLines {
			lines = slices.Clone(lines[len(lines)-lastLines:])
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read the log %s: %w", path, err)
	}
	if !whole {
		lines = lines[max(0, len(lines)-lastLines):]
	}
	for _, line := range lines {
		s.printf("%s%s\n", prefix, printable(line))
	}
	return nil
}

// followLogs prints what is written from now on. It sleeps between writes.
func (s *session) followLogs(ctx context.Context, n *operation.Node, names []string, keep func(string) bool) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the logs: %w", err)
	}
	defer w.Close() //nolint:errcheck // the process ends with it
	at := map[string]int64{}
	prefix := map[string]string{}
	for _, name := range names {
		path := n.Root.Logs(name)
		if info, err := os.Stat(path); err == nil {
			at[path] = info.Size()
		}
		if len(names) > 1 {
			prefix[path] = name + " | "
		}
	}
	if err := w.Add(n.Root.Path("var/log")); err != nil {
		return fmt.Errorf("watch the logs: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch the logs: %w", err)
		case e := <-w.Events:
			if _, ours := at[e.Name]; !ours || !e.Has(fsnotify.Write) {
				continue
			}
			next, err := s.printFrom(e.Name, at[e.Name], prefix[e.Name], keep)
			if err != nil {
				return err
			}
			at[e.Name] = next
		}
	}
}

// printFrom prints a log from an offset; a shorter file was rotated.
func (s *session) printFrom(path string, from int64, prefix string, keep func(string) bool) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return from, fmt.Errorf("follow a log: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return from, fmt.Errorf("follow a log: %w", err)
	}
	if info.Size() < from {
		from = 0
	}
	data, err := io.ReadAll(io.NewSectionReader(f, from, min(info.Size()-from, 8<<20)))
	if err != nil {
		return from, fmt.Errorf("follow a log: %w", err)
	}
	end := strings.LastIndexByte(string(data), '\n') + 1
	for line := range strings.Lines(string(data[:end])) {
		if line = strings.TrimRight(line, "\n"); keep(line) {
			s.printf("%s%s\n", prefix, printable(line))
		}
	}
	return from + int64(end), nil
}
