package observe

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/core/timer"
)

// tooOften is how many restarts with one and the same error show that waiting
// is of no use. Pauses between restarts grow to a minute, so a service that
// has failed alike for longOften, and that more than once, shows it, too.
const (
	tooOften  = 5
	again     = 2
	longOften = 45 * time.Second
)

// logPatience is how long the end of a log may take to be read.
const logPatience = 500 * time.Millisecond

// HopelessError says why a node did not become ready, or cannot by itself.
type HopelessError struct {
	Service string // that most likely is to blame; may be empty
	Why     string
	Detail  string        // the service's last error line; may be empty
	After   time.Duration // how long was waited; 0 where waiting is of no use
	Next    string
}

// Error is what happened, without Detail.
func (e *HopelessError) Error() string {
	var b strings.Builder
	b.WriteString("not ready")
	if e.After > 0 {
		fmt.Fprintf(&b, " after %s", e.After.Round(time.Second))
	}
	b.WriteString(": ")
	if e.Service != "" {
		b.WriteString(e.Service + " ")
	}
	return b.String() + e.Why
}

// WaitReady waits until the node is Ready. It says what it waits for when that
// changes, and ends early where waiting is of no use. Its error is always a
// *HopelessError, with a service to blame where one is, and its last error.
func WaitReady(ctx context.Context, n *operation.Node, progress func(string)) error {
	began, last, pause := time.Now(), "", 200*time.Millisecond
	loops := map[string]loop{}
	for {
		s := NodeStatus(ctx, n)
		if s.Ready {
			return nil
		}
		if ctx.Err() != nil { // what hung because of that says nothing
			return lateWith(n, late(s, time.Since(began), last))
		}
		if err := hopeless(s, loops, time.Now()); err != nil {
			return err
		}
		if what := waitingFor(s); what != last {
			progress(what)
			last = what
		}
		if !timer.Wait(ctx, pause) {
			return lateWith(n, late(s, time.Since(began), last))
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// loop is a service's error, and since which restart and when it has been the
// same; seen is the restarts that there were when it was first looked at.
type loop struct {
	line       string
	from, seen int
	since      time.Time
}

// hopeless is why waiting is of no use, or nil.
func hopeless(s *Status, loops map[string]loop, now time.Time) error {
	if why := s.Silent["disk"]; why != "" {
		return &HopelessError{Why: why, Detail: "the disk of the node's folder is gone, or who serves it hangs", Next: "mk inspect"}
	}
	if s.Stopped {
		return &HopelessError{Why: "the node is stopped", Next: "sudo mk start"}
	}
	for _, c := range s.Certificates {
		for _, r := range c.Reasons {
			if r.Code == pki.HasExpired {
				return &HopelessError{Why: c.Name + ".crt: " + r.Text, Next: "sudo mk certs renew " + c.Name}
			}
		}
	}
	for _, x := range s.Services {
		seen, known := loops[x.Name]
		if !known || x.Restarts < seen.from {
			// Restarts count since a person started it: those before were
			// not seen, and are taken to have ended like the last.
			seen = loop{x.LastError, 0, x.Restarts, now}
		} else if !sameError(seen.line, x.LastError) {
			seen = loop{x.LastError, x.Restarts, x.Restarts, now}
		}
		loops[x.Name] = seen
		often := x.Restarts-seen.from >= tooOften
		long := x.Restarts-seen.seen >= again && now.Sub(seen.since) >= longOften
		if x.State != service.Running && (often || long) {
			return &HopelessError{Service: x.Name, Why: fmt.Sprintf("restarts again and again (%d times)", x.Restarts), Detail: x.LastError, Next: logOf(x.Name)}
		}
		if x.State == service.Failed {
			return &HopelessError{Service: x.Name, Why: "failed and is not tried again: " + x.LastExit, Detail: x.LastError, Next: logOf(x.Name)}
		}
	}
	if len(s.Services) == 0 && s.Silent["services"] == "" {
		return &HopelessError{Why: "no service runs", Next: "sudo mk start"}
	}
	return nil
}

// sameError compares errors without their numbers: times and processes differ
// each time.
func sameError(a, b string) bool {
	words := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) {
				return -1
			}
			return r
		}, s)
	}
	return words(a) == words(b)
}

func logOf(name string) string { return "mk logs " + name + " --since 5m" }

// late is the end of a wait that took too long. last is what was waited for.
func late(s *Status, after time.Duration, last string) *HopelessError {
	e := &HopelessError{After: max(after, time.Second), Why: last, Next: "mk doctor"}
	if last == "" {
		e.Why = waitingFor(s)
	}
	name := blamed(s)
	for _, x := range s.Services {
		if x.Name != name {
			continue
		}
		e.Service, e.Detail, e.Next = name, x.LastError, logOf(name)
		waits := e.Why
		switch {
		case x.State == service.Running && x.Restarts > 0:
			e.Why = fmt.Sprintf("runs, started again %d times", x.Restarts)
		case x.Restarts > 0:
			e.Why = fmt.Sprintf("restarts again and again (%d times)", x.Restarts)
		case x.State != service.Running:
			e.Why = "is " + string(x.State)
		default:
			e.Why = "runs"
		}
		if x.State == service.Running {
			e.Detail = strings.TrimSpace(waits + "\n" + e.Detail) // the first line is short
		}
	}
	if e.Detail == "" {
		e.Detail = strings.Join(s.Silences(), "; ")
	}
	return e
}

// lateWith adds the last error in the log of a service that runs: nobody has
// asked for it, as nobody saw it end.
func lateWith(n *operation.Node, e *HopelessError) *HopelessError {
	if e.Service == "" || n.Unread(node.LogsPart) != nil {
		return e
	}
	log := n.Root.Logs(e.Service)
	line, err := node.Await(logPatience, log, func(func(string)) (string, error) { return logfile.LastError(log, 0), nil }, func(string) {})
	if err != nil {
		line = err.Error()
	}
	if line != "" && !strings.Contains(e.Detail, line) {
		e.Detail = strings.TrimSpace(e.Service + ": " + line + "\n" + e.Detail)
	}
	return e
}

// blamed is the service that most likely is to blame: one that does not run,
// then one that does not answer.
func blamed(s *Status) string {
	for _, x := range s.Services {
		if x.State != service.Running {
			return x.Name
		}
	}
	for _, c := range []struct{ source, service string }{{"containerd", "containerd"}, {"datastore", "etcd"}} {
		if s.Silent[c.source] != "" {
			return c.service
		}
	}
	return "kubelite"
}

func waitingFor(s *Status) string {
	for _, x := range s.Services {
		if x.State != service.Running {
			return "waiting for " + x.Name + " (" + string(x.State) + ")"
		}
	}
	if lines := s.Silences(); len(lines) > 0 {
		return "waiting for the " + lines[0]
	}
	for _, x := range s.Nodes {
		if x.Name == s.Node {
			return "waiting for the node: " + x.Reason
		}
	}
	return "waiting for the node to register"
}
