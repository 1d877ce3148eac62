package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/observe"
	"mk8s.io/mk/core/operation"
)

func (s *session) status() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "say how this node is", Description: "mk status --wait-ready\nmk status --watch", UsageText: exitsRead + ", 4 not ready",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait-ready", Aliases: []string{"w"}, Usage: "wait until the node is ready"},
			&cli.GenericFlag{Name: "t", Usage: "as --timeout", Value: &patience{to: &s.global.timeout}},
			&cli.BoolFlag{Name: "watch", Usage: "say it again whenever it changes, until Ctrl-C"},
			&cli.StringFlag{Name: "addon", Aliases: []string{"a"}, Usage: "only say whether this `ADDON` is enabled"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("watch") {
				return s.watchStatus(c)
			}
			began := time.Now()
			err := s.look(c.Context, "status", statusPatience, func(n *operation.Node) error {
				if c.Bool("wait-ready") {
					if err := s.waitReady(c, n); err != nil {
						return err
					}
					began = time.Now()
				}
				ctx, cancel := context.WithDeadline(c.Context, began.Add(statusLimit))
				defer cancel()
				return s.doStatus(ctx, c, n)
			})
			if c.Bool("wait-ready") && errors.Is(err, operation.ErrNoNode) {
				return &problem{Reason: "NOT_READY", Message: "not ready: " + operation.ErrNoNode.Error(), Why: err.Error(), exit: exitNotReady, Next: []string{"sudo mk start"}}
			}
			return err
		},
	}
}

// watchEvery is how often --watch looks.
const watchEvery = 2 * time.Second

// watchStatus prints the status whenever it is another one.
func (s *session) watchStatus(c *cli.Context) error {
	if s.documents() {
		return usage("mk status --watch has no end, so it cannot be one document: leave --watch or -o out")
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for last := ""; ; {
		var now strings.Builder
		err := s.look(ctx, "status", statusPatience, func(n *operation.Node) error {
			limited, cancel := context.WithTimeout(ctx, statusLimit)
			defer cancel()
			st := observe.NodeStatus(limited, n)
			if s.global.output == "short" {
				printShort(&now, st)
			} else {
				printStatus(&now, st)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if text := now.String(); text != last && ctx.Err() == nil {
			s.printf("%s\n%s\n", time.Now().Format(time.DateTime), printable(text))
			last = text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// A status comes within 3 seconds, whatever hangs: one for the node's folder
// to be opened, the rest for what is in it and for all others.
const (
	statusPatience = time.Second
	statusLimit    = 2700 * time.Millisecond
)

// waitLimit is how long --wait-ready waits where --timeout does not say.
const waitLimit = 10 * time.Minute

// waitReady waits until the node is ready, and says why it is not.
func (s *session) waitReady(c *cli.Context, n *operation.Node) error {
	ctx, cancel := context.WithTimeout(c.Context, cmp.Or(s.global.timeout, waitLimit))
	defer cancel()
	err := observe.WaitReady(ctx, n, func(what string) { s.note("%s", what) })
	if e, ok := errors.AsType[*observe.HopelessError](err); ok && c.Context.Err() == nil {
		return &problem{Reason: "NOT_READY", Message: e.Error(), Why: e.Detail, exit: exitNotReady, Next: []string{e.Next, "mk doctor"}}
	}
	return errors.Join(c.Context.Err(), err)
}

func (s *session) doStatus(ctx context.Context, c *cli.Context, n *operation.Node) error {
	st := observe.NodeStatus(ctx, n)
	if name := c.String("addon"); name != "" {
		if _, err := n.FindAddon(name); err != nil {
			return err
		}
		return s.addonStatus(st, name)
	}
	err := s.show(st, func(w io.Writer) error {
		if s.global.output == "short" {
			printShort(w, st)
			return nil
		}
		printStatus(w, st)
		return nil
	})
	if err == nil && !st.Ready {
		return &problem{Reason: "NOT_READY", Message: "the node is not ready", Why: whyNot(st), exit: exitNotReady, Next: nextAfter(st)}
	}
	return err
}

func (s *session) addonStatus(st *observe.Status, name string) error {
	word := "disabled"
	for _, a := range st.Addons {
		if a.Name == name && a.Enabled {
			word = "enabled"
		}
	}
	result := struct {
		Addon   string `json:"addon"`
		Enabled bool   `json:"enabled"`
	}{name, word == "enabled"}
	err := s.show(result, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, word)
		return err
	})
	if err == nil && !st.Ready {
		return &problem{Reason: "NOT_READY", Message: "the node is not ready", exit: exitNotReady, Next: nextAfter(st)}
	}
	return err
}

func whyNot(st *observe.Status) string {
	if st.Outdated != "" {
		return st.Outdated
	}
	if st.Stopped {
		return "it was stopped"
	}
	for _, x := range st.Services {
		if x.State != "running" {
			return fmt.Sprintf("%s is %s: %s", x.Name, x.State, x.LastError)
		}
	}
	if lines := st.Silences(); len(lines) > 0 {
		return lines[0]
	}
	return ""
}

func nextAfter(st *observe.Status) []string {
	if st.Outdated != "" {
		return comeBack()
	}
	if st.Stopped || len(st.Services) == 0 {
		return []string{"sudo mk start"}
	}
	return []string{"mk status --wait-ready", "mk doctor"}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}

func headline(st *observe.Status) string {
	switch {
	case st.Stopped:
		return "mk is stopped"
	case st.Ready:
		return "mk is running"
	}
	return "mk is not ready"
}

func printShort(w io.Writer, st *observe.Status) {
	fmt.Fprintf(w, "%s\naddons:\n", headline(st))
	for _, a := range st.Addons {
		fmt.Fprintf(w, "%s: %s\n", a.Name, map[bool]string{true: "enabled", false: "disabled"}[a.Enabled])
	}
}

func printStatus(w io.Writer, st *observe.Status) {
	if st.Node == "" {
		fmt.Fprintln(w, headline(st))
	} else {
		fmt.Fprintf(w, "%s: %s (%s) at %s\n", headline(st), st.Node, st.Role, st.Address)
	}
	if st.Outdated != "" {
		fmt.Fprintf(w, "it serves nothing: %s\n", st.Outdated)
	}
	fmt.Fprintf(w, "high-availability: %s\n", map[bool]string{true: "yes", false: "no"}[st.HA])
	fmt.Fprintf(w, "  datastore master nodes: %s\n  datastore standby nodes: %s\n", orNone(st.Voters), orNone(st.Standby))
	fmt.Fprintln(w, "services:")
	for _, x := range st.Services {
		fmt.Fprintf(w, "  %-12s %s", x.Name, x.State)
		if x.Restarts > 0 {
			fmt.Fprintf(w, ", started again %d times: %.120s", x.Restarts, x.LastError)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "addons:")
	for _, group := range []bool{true, false} {
		fmt.Fprintf(w, "  %s:\n", map[bool]string{true: "enabled", false: "disabled"}[group])
		for _, a := range st.Addons {
			if a.Enabled == group {
				fmt.Fprintf(w, "    %-16s # %s\n", a.Name, a.Description)
			}
		}
	}
	for _, c := range st.Certificates {
		fmt.Fprintf(w, "certificate %s: %s\n", c.Name, c.Reasons[0].Text)
	}
	for _, a := range st.Asked {
		fmt.Fprintf(w, "%s asks %s: %s\n", a.File, a.Asks, a.Next)
	}
	for _, d := range st.Drift {
		fmt.Fprintf(w, "drift: %s\n", d)
	}
	for _, line := range st.Silences() {
		fmt.Fprintf(w, "%.170s\n", line)
	}
	if len(st.RootEquivalent) > 0 {
		fmt.Fprintf(w, "plugins that could become root: %s\n", strings.Join(st.RootEquivalent, " "))
	}
	if st.AcceptsMicroK8s {
		fmt.Fprintln(w, "MicroK8s' own clients are let in: accept-microk8s is on")
	}
	if st.Holder != "" {
		fmt.Fprintf(w, "%s changes the node just now\n", st.Holder)
	}
	if st.Open != nil {
		other := fmt.Sprintf(", or mk changes abort %d", st.Open.Number)
		switch st.Open.Verb {
		case "join":
			other = ", or mk leave"
		case operation.RecoverVerb, operation.RestoreVerb: // those are not given up
			other = ""
		}
		fmt.Fprintf(w, "change %d (%s) is not finished: mk %s%s\n", st.Open.Number, st.Open.Verb, st.Open.Verb, other)
	}
}
