package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strings"
	"syscall"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/neighbour"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/pluginhost"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/snapshot"
	"mk8s.io/mk/pluginsdir"
	pluginproblem "mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/pluginsdir/strict"
	"mk8s.io/mk/sdk/plugin"
)

// Exit codes, as `mk help exit-codes` lists them.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitNotReady    = 4
	exitSomeNodes   = 5
	exitNeedsYes    = 6
	exitNeedsRoot   = 50
	exitInterrupted = 130
)

// problem is what a user is told when something did not work: what happened,
// why, and what to do next.
type problem struct {
	Reason  string   `json:"reason"`
	Message string   `json:"message"`
	Why     string   `json:"why,omitempty"`
	Next    []string `json:"next,omitempty"`
	Changed bool     `json:"changed"`

	state string
	exit  int
	err   error
}

// Error is the first line.
func (p *problem) Error() string { return p.Message }

// Unwrap gives what went wrong below.
func (p *problem) Unwrap() error { return p.err }

// usage is wrong input: nothing was changed.
func usage(format string, a ...any) *problem {
	return &problem{Reason: "USAGE", Message: fmt.Sprintf(format, a...), exit: exitUsage, state: unchanged}
}

const unchanged = "nothing was changed"

// maxLine is how long a first line may be, less what stands before it.
const maxLine = 100 - len("mk: ")

// explain turns an error into a problem.
func explain(ctx context.Context, err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		p.shorten()
		return p
	}
	p := needsRoot(err, os.Geteuid())
	if p == nil {
		p = classify(err)
	}
	// Only what ended because it was told to was interrupted: another error
	// that happens to come after Ctrl-C is what the user must know.
	if errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Canceled) {
		p = &problem{Reason: "INTERRUPTED", Message: "interrupted", Why: err.Error(), exit: exitInterrupted,
			Next: []string{"the same command again goes on where it stopped", "mk changes"}}
	}
	p.err = err
	if p.Message == "" {
		p.Message = err.Error()
	}
	p.shorten()
	return p
}

// needsRoot is the problem of a caller who may not read something. Root may
// read everything: for it, this is another fault.
func needsRoot(err error, uid int) *problem {
	if uid == 0 || !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return &problem{Reason: "NEEDS_ROOT", Message: "this needs root, or the group that may read", Why: err.Error(),
		Next: []string{"the same command with sudo", "mk help permissions"}, exit: exitNeedsRoot, state: unchanged}
}

// classify knows the errors that users can do something about. Whatever else
// an error is, a refusal ends with 3, and faults of a file with 2.
func classify(err error) *problem {
	p := classifyCause(err)
	_, faults := errors.AsType[strict.Faults](err)
	_, group := errors.AsType[user.UnknownGroupError](err)
	switch {
	case errors.Is(err, pluginsdir.ErrRefused):
		p.exit = exitRefused
		if p.Reason == "PLUGIN" || p.Reason == "FAILED" {
			p.Reason = "REFUSED"
		}
	case faults && p.exit == exitFailed:
		p.Reason, p.exit = "BAD_FILE", exitUsage
	case group && p.exit == exitFailed:
		p.Reason, p.exit = "BAD_SETTING", exitUsage
	}
	return p
}

func classifyCause(err error) *problem {
	if p := classifyNode(err); p != nil {
		return p
	}
	if p, ok := errors.AsType[*pluginproblem.Error](err); ok {
		out := &problem{Reason: "PLUGIN", Message: p.What, Why: p.Why, exit: exitFailed, state: unchanged}
		if p.Next != "" {
			out.Next = []string{p.Next}
		}
		return out
	}
	if _, ok := errors.AsType[*pluginhost.IntegrityError](err); ok {
		return &problem{Reason: "INTEGRITY", exit: exitRefused, state: unchanged, Next: []string{"mk plugin verify"}}
	}
	if c, ok := errors.AsType[*pluginhost.CrashError](err); ok {
		return &problem{Reason: "PLUGIN_CRASHED", Message: "plugin " + c.Plugin + " " + c.Version + " stopped while it was asked to " + c.Question,
			Why: c.Reason, exit: exitFailed, Next: []string{"mk plugin rollback " + c.Plugin}}
	}
	if e, ok := errors.AsType[*plugin.Error](err); ok {
		return pluginProblem(e)
	}
	return &problem{Reason: "FAILED", exit: exitFailed}
}

func pluginProblem(e *plugin.Error) *problem {
	p := &problem{Reason: string(e.Reason), Message: e.Message, exit: exitFailed}
	if e.Next != "" {
		p.Next = []string{e.Next}
	}
	switch e.Reason {
	case plugin.BadArgument, plugin.BadSettings, plugin.AddonUnknown:
		p.exit, p.state = exitUsage, unchanged
	}
	return p
}

// classifyNode knows the errors of the core.
func classifyNode(err error) *problem {
	if e, ok := errors.AsType[*node.SilentError](err); ok {
		return &problem{Reason: "DISK_SILENT", Message: e.Error(), Why: "its disk is gone, or who serves it hangs", exit: exitNotReady,
			Next: []string{"findmnt --target " + e.Path, "mk status"}}
	}
	if e, ok := errors.AsType[*operation.OutdatedError](err); ok {
		return &problem{Reason: "OUTDATED", Message: e.Error(), Why: e.Why(), exit: exitRefused, state: unchanged, Next: comeBack()}
	}
	if errors.Is(err, snapshot.ErrEncrypted) {
		return &problem{Reason: "NEEDS_KEY", Message: "the snapshot is encrypted", exit: exitRefused, state: unchanged, Next: []string{"the same with --identity FILE"}}
	}
	if e, ok := errors.AsType[*operation.UnknownError](err); ok {
		return unknownName(e)
	}
	if e, ok := errors.AsType[*datastore.QuorumError](err); ok {
		return noQuorum(e)
	}
	if e, ok := errors.AsType[*operation.NotReadyError](err); ok {
		message := "not ready: " + e.Service + " is " + e.State
		if e.Restarts == 1 {
			message += ", started again once"
		} else if e.Restarts > 1 {
			message = fmt.Sprintf("not ready: %s restarts again and again (%d times)", e.Service, e.Restarts)
		}
		why := e.LastError
		if !e.Broken() && e.Err != nil {
			message, why = "not ready in time: "+e.Service+" runs", strings.TrimSpace(e.Err.Error()+"\n"+e.LastError)
		}
		return &problem{Reason: "NOT_READY", Message: message, Why: why, exit: exitNotReady,
			Next: []string{"mk doctor", "mk logs " + e.Service + " --since 5m"}}
	}
	if e, ok := errors.AsType[*service.StartError](err); ok {
		return &problem{Reason: "NOT_READY", Message: e.Service + " does not come up: " + e.What, Why: e.LastError, exit: exitNotReady,
			Next: []string{"mk doctor", "mk logs " + e.Service + " --since 5m"}}
	}
	if e, ok := errors.AsType[*operation.OpenError](err); ok {
		return &problem{Reason: "OPEN_OPERATION", Message: e.Error(), Why: e.Record.Error, exit: exitFailed, state: unchanged,
			Next: []string{"mk " + e.Record.Verb, fmt.Sprintf("mk changes show %d", e.Record.Number)}}
	}
	if e, ok := errors.AsType[*lock.HeldError](err); ok {
		return &problem{Reason: "LOCKED", Message: "gave up waiting for " + e.Holder.Describe(e.At), exit: exitNotReady, state: unchanged,
			Next: []string{"the same command later, or with a longer --timeout"}}
	}
	if e, ok := errors.AsType[*args.SyntaxError](err); ok {
		return &problem{Reason: "BAD_FILE", Message: e.Error(), exit: exitUsage, state: unchanged}
	}
	if e, ok := errors.AsType[*kube.NotReadyError](err); ok {
		return &problem{Reason: "NOT_READY", Message: "the API server is not ready", Why: e.Error(), exit: exitNotReady, Next: []string{"mk status"}}
	}
	if e, ok := errors.AsType[*node.FileError](err); ok && !errors.Is(err, node.ErrNewerSchema) {
		return &problem{Reason: "BAD_FILE", Message: e.Error(), exit: exitUsage, state: unchanged}
	}
	if p := classifyMachine(err); p != nil {
		return p
	}
	switch {
	case errors.Is(err, operation.ErrNoNode):
		return &problem{Reason: "NO_NODE", Message: "there is no node here", Why: err.Error(), exit: exitFailed, state: unchanged, Next: []string{"mk start"}}
	case errors.Is(err, pki.ErrClock):
		return &problem{Reason: "CLOCK", Message: "the clock is behind", Why: err.Error(), exit: exitFailed, state: unchanged,
			Next: []string{"timedatectl set-ntp true"}}
	case errors.Is(err, service.ErrNotRunning), errors.Is(err, operation.ErrStopped):
		return &problem{Reason: "NOT_RUNNING", Message: "the node is not running", Why: err.Error(), exit: exitNotReady, Next: []string{"mk start"}}
	case errors.Is(err, operation.ErrAuthorityInUse):
		return &problem{Reason: "AUTHORITY_IN_USE", Message: "another certs plugin cannot be used on a running cluster yet", Why: err.Error(), exit: exitRefused, state: unchanged}
	case errors.Is(err, syscall.ENOSPC):
		return &problem{Reason: "DISK_FULL", Message: "the disk is full", Why: err.Error(), exit: exitFailed,
			Next: []string{"make room, then the same command again"}}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{Reason: "TIMEOUT", Message: "it took too long", Why: err.Error(), exit: exitNotReady, Next: []string{"mk status"}}
	}
	return nil
}

// classifyMachine knows what else on the machine is in a node's way.
func classifyMachine(err error) *problem {
	next := func(f *neighbour.Found) []string {
		if f == nil || f.Stop == "" {
			return []string{"stop it, then: sudo mk start"}
		}
		return []string{f.Stop + "     then  sudo mk start"}
	}
	if e, ok := errors.AsType[*peer.WrongServerError](err); ok {
		host, _, _ := net.SplitHostPort(e.Address)
		return &problem{Reason: string(peer.WrongServer), Message: "cannot join: " + word(host, e.Address) + " is not the server of this connection string",
			Why: "its key is " + brief(e.Got) + ", the string says " + brief(e.Want) +
				". Either the string is from another cluster, or someone answers in its place",
			Next: []string{"on the node that you mean:  mk add-node        (do not use --skip-verify unless you know why they differ)"}, exit: exitFailed, state: unchanged}
	}
	if e, ok := errors.AsType[*operation.PortError](err); ok {
		why := "the node needs it for " + e.For
		switch {
		case e.Kubernetes != nil:
			why = "by " + e.Kubernetes.String() + ": another Kubernetes runs on this machine"
		case e.By != "":
			why += "; it is held by " + e.By
		}
		return &problem{Reason: "PORT_TAKEN", Message: e.Error(), Why: why, exit: exitFailed, state: unchanged, Next: next(e.Kubernetes)}
	}
	if e, ok := errors.AsType[*operation.NeighbourError](err); ok {
		return &problem{Reason: "OTHER_KUBERNETES", Message: "another Kubernetes runs on this machine", exit: exitFailed, state: unchanged,
			Why:  e.Found.String() + "; both would write the same packet filter and own the same ports",
			Next: append(next(&e.Found), "or, where you know that they do not meet: MK_ACCEPT_OTHER_KUBERNETES=true")}
	}
	return nil
}

// brief shows enough of a fingerprint to compare it by eye.
func brief(s string) string {
	if len(s) < 12 {
		return s
	}
	return s[:4] + "…" + s[len(s)-2:]
}

// comeBack is how a node that its cluster goes on without becomes one again.
func comeBack() []string {
	return []string{"mk leave", "then with a string from mk add-node on another node: mk join"}
}

// shorten keeps the first line to what a terminal shows; the rest is why.
func (p *problem) shorten() {
	line, rest, more := strings.Cut(p.Message, "\n")
	if len([]rune(line)) > maxLine {
		head, tail, ok := strings.Cut(line, ": ")
		if !ok || len([]rune(head)) > maxLine {
			head, tail = string([]rune(line)[:maxLine-1])+"…", line
		}
		line, rest, more = head, strings.TrimSpace(tail+"\n"+rest), true
	}
	p.Message = line
	if rest = strings.TrimSpace(rest); more && !strings.Contains(p.Why, rest) {
		p.Why = strings.TrimSpace(rest + "\n" + p.Why)
	}
}

// print writes a problem for people, behind a name that may have a color.
func (p *problem) print(w io.Writer, name string, verbose bool) {
	fmt.Fprintf(w, "%s %s\n", name, printable(p.Message))
	field := func(name, text string) {
		for i, line := range strings.Split(printable(text), "\n") {
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(w, "%-5s %s\n", name, line)
		}
	}
	if p.Why != "" {
		field("why", p.Why)
	}
	if len(p.Next) > 0 {
		field("next", strings.Join(p.Next, "\n"))
	}
	if p.state != "" {
		field("state", p.state)
	}
	if verbose {
		field("code", p.Reason)
	}
}
