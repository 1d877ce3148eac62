package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/version"
)

// output is standard output; it remembers whether anything was written.
type output struct {
	w     io.Writer
	wrote bool
}

// Write passes on.
func (o *output) Write(data []byte) (int, error) {
	o.wrote = true
	return o.w.Write(data)
}

// session is one run of mk: its streams and what the global flags said.
type session struct {
	collect int // how often a process that stays collects its garbage, as debug.SetGCPercent has it
	args    []string
	in      io.Reader
	out     *output
	err     io.Writer
	env     func(string) string
	global  globals

	documented bool // the one document was printed

	stands atomic.Int64 // the number of the change that stands open; 0 is none

	// patience is how long the node's folder may take to answer; 0 is the
	// core's own.
	patience time.Duration
	dead     []string // parts of the node's folder that do not answer
}

// globals are the values of the flags that every verb takes.
type globals struct {
	root, output, color, progress string
	dryRun, yes, noWait           bool
	quiet, verbose                bool
	timeout                       time.Duration
}

func newSession(args []string, in io.Reader, out, errs io.Writer, env func(string) string) *session {
	return &session{args: args, in: in, out: &output{w: out}, err: errs, env: env, global: globals{root: node.DefaultDir, output: "pretty"}}
}

// finish says what went wrong, in the format that was asked for, and answers
// the exit code.
func (s *session) finish(ctx context.Context, err error) int {
	if err == nil && s.documents() && !s.out.wrote {
		err = s.document(map[string]bool{"done": true})
	}
	if err == nil {
		return 0
	}
	p := explain(ctx, err)
	if p.exit == exitInterrupted && p.state == "" {
		p.state = s.standing()
	}
	// A verb may print its result and fail: the result stays alone.
	if s.documents() && !s.documented {
		if err := s.document(map[string]*problem{"error": p}); err == nil {
			return p.exit
		}
	}
	p.print(s.err, s.red("mk:"), s.global.verbose)
	return p.exit
}

// red is a text on standard error that may have that color.
func (s *session) red(text string) string {
	f, is := s.err.(*os.File)
	auto := is && s.global.color != "never" && s.env("NO_COLOR") == "" && s.env("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
	if auto || s.global.color == "always" {
		return "\x1b[31m" + text + "\x1b[0m"
	}
	return text
}

// standing says which change stands open; empty where none does.
func (s *session) standing() string {
	n := s.stands.Load()
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("change %d stands open: mk changes show %d", n, n)
}

// document prints one document on standard output. Its times are in UTC.
func (s *session) document(v any) error {
	s.documented = true
	data, err := json.MarshalIndent(inUTC(v), "", "  ")
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if s.global.output == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		_, err = s.out.Write(data)
	} else {
		_, err = fmt.Fprintln(s.out, string(data))
	}
	return err
}

// show prints a result: as a document where one was asked for, else by pretty.
func (s *session) show(v any, pretty func(io.Writer) error) error {
	if s.documents() {
		return s.document(v)
	}
	return pretty(printableWriter{s.out})
}

// documents tells whether the result is one document for a program.
func (s *session) documents() bool { return s.global.output == "json" || s.global.output == "yaml" }

func (s *session) printf(format string, a ...any) { fmt.Fprintf(s.out, format, a...) }

// note says something that is no result.
func (s *session) note(format string, a ...any) {
	if !s.global.quiet {
		fmt.Fprint(s.err, printable(fmt.Sprintf(format+"\n", a...)))
	}
}

// options are what an operation of this session is told.
func (s *session) options(verb string) (operation.Options, error) {
	if _, err := s.settings(); err != nil {
		return operation.Options{}, err // with its line, as wrong usage
	}
	return s.unchecked(verb)
}

// unchecked are options whose settings file was not looked at.
func (s *session) unchecked(verb string) (operation.Options, error) {
	exe, err := os.Executable()
	if err != nil {
		return operation.Options{}, fmt.Errorf("find mk's own program: %w", err)
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "mk", Level: hclog.Off, Output: io.Discard})
	if s.global.verbose {
		log = hclog.New(&hclog.LoggerOptions{Name: "mk", Level: hclog.Debug, Output: s.err})
	}
	return operation.Options{
		Root: s.global.root, Executable: exe, Version: version.Version, Built: version.BuiltAt(), Verb: verb,
		Command: s.args, User: userName(), Env: s.env, Progress: s.newProgress(), Now: clock(s.global.root), Log: log,
		Patience: s.patience, Dead: s.dead, Step: crashStep(s.env, s.global.root),
		Stands:  func(number int) { s.stands.Store(int64(number)) },
		Waiting: func(o lock.Owner) { s.note("waiting for %s", o.Describe(time.Now())) },
	}, nil
}

// userName is who typed: behind sudo, too.
func userName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// open opens the node for one verb and ends what the verb started. A folder
// that holds settings or plugins, but never saw a start, is no node.
func (s *session) open(verb string, do func(*operation.Node) error) error {
	return s.openFolder(verb, func(n *operation.Node) error {
		if n.Record == nil {
			return fmt.Errorf("%s: %w", s.global.root, operation.ErrNoNode)
		}
		return do(n)
	})
}

// openFolder opens what there is of a node, which need not have been started.
func (s *session) openFolder(verb string, do func(*operation.Node) error) error {
	o, err := s.options(verb)
	if err != nil {
		return err
	}
	n, err := operation.OpenNode(o)
	if err != nil {
		return err
	}
	return joinClose(do(n), n)
}

// look opens the node for a verb that answers whatever hangs. What of the
// node's folder gives no answer within patience is not touched; where that is
// the folder itself, the verb is done with what can be asked without it.
func (s *session) look(ctx context.Context, verb string, patience time.Duration, do func(*operation.Node) error) error {
	s.patience = patience
	s.dead = node.Probe(ctx, s.global.root, patience)
	if slices.Contains(s.dead, node.Folder) {
		return s.unanswered(verb, &node.SilentError{Path: s.global.root, After: patience}, do)
	}
	err := s.open(verb, do)
	if silent, ok := errors.AsType[*node.SilentError](err); ok {
		return s.unanswered(verb, silent, do)
	}
	return err
}

func (s *session) unanswered(verb string, silent *node.SilentError, do func(*operation.Node) error) error {
	o, err := s.unchecked(verb)
	if err != nil {
		return err
	}
	n, err := operation.Unanswered(o, silent)
	if err != nil {
		return err
	}
	return joinClose(do(n), n)
}

// joinClose closes the node; what the verb says comes first.
func joinClose(err error, n *operation.Node) error {
	if closeErr := n.Close(); err == nil {
		return closeErr
	}
	return err
}

// root refuses a verb that changes something where the caller is not root.
func (s *session) root(verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &problem{
		Reason: "NEEDS_ROOT", Message: "this needs root", exit: exitNeedsRoot, state: unchanged,
		Why:  fmt.Sprintf("%s belongs to root; you are %s", s.global.root, userName()),
		Next: []string{"sudo mk " + verb},
	}
}

// agree asks before something that cannot be undone. typed, where it is not
// empty, must be typed as it is.
func (s *session) agree(question, typed string) error {
	if s.global.yes {
		return nil
	}
	declined := &problem{Reason: "NEEDS_YES", Message: "this needs your agreement", Why: question, exit: exitNeedsYes, state: unchanged,
		Next: []string{"the same command with --yes"}}
	f, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return declined
	}
	expected := "yes"
	if typed != "" {
		expected = typed
	}
	fmt.Fprintf(s.err, "%s\nType %q to go on: ", question, expected)
	var answer string
	if _, err := fmt.Fscanln(s.in, &answer); err != nil || answer != expected {
		return declined
	}
	return nil
}

// bounded is ctx with --timeout.
func (s *session) bounded(c *cli.Context) (context.Context, context.CancelFunc) {
	if s.global.timeout > 0 {
		return context.WithTimeout(c.Context, s.global.timeout)
	}
	return context.WithCancel(c.Context)
}
