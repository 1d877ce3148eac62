package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/pluginsdir"
	pluginproblem "mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/pluginsdir/strict"
)

// testSession is a session whose streams are kept; its root is empty.
func testSession(t *testing.T, output string) (s *session, out, errs *bytes.Buffer) {
	t.Helper()
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	s = newSession([]string{"mk"}, strings.NewReader(""), out, errs, func(string) string { return "" })
	s.global.root, s.global.output = filepath.Join(t.TempDir(), "root"), output
	return s, out, errs
}

func TestOneDocument(t *testing.T) {
	result := map[string]int{"n": 1}
	for _, c := range []struct {
		name, output string
		shown        bool
		err          error
		out, errs    string
		exit         int
	}{
		{"a result", "json", true, nil, "{\n  \"n\": 1\n}\n", "", 0},
		{"no result", "json", false, nil, "{\n  \"done\": true\n}\n", "", 0},
		{"no result, for people", "pretty", false, nil, "", "", 0},
		{"only an error", "yaml", false, usage("bad"), "error:\n  changed: false\n  message: bad\n  reason: USAGE\n", "", 2},
		{"a result and an error", "json", true, usage("bad"), "{\n  \"n\": 1\n}\n", "mk: bad\nstate nothing was changed\n", 2},
		{"an error for people", "short", false, usage("bad"), "", "mk: bad\nstate nothing was changed\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, out, errs := testSession(t, c.output)
			if c.shown {
				if err := s.show(result, func(io.Writer) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if exit := s.finish(t.Context(), c.err); exit != c.exit || out.String() != c.out || errs.String() != c.errs {
				t.Errorf("exit %d, want %d\nout  %q\nwant %q\nerr  %q\nwant %q", exit, c.exit, out, c.out, errs, c.errs)
			}
		})
	}
}

// A message has a color where it was asked for, or on a terminal; a buffer is
// none.
func TestColor(t *testing.T) {
	for color, want := range map[string]string{"always": "\x1b[31mmk:\x1b[0m bad\n", "auto": "mk: bad\n", "never": "mk: bad\n"} {
		s, _, errs := testSession(t, "pretty")
		s.global.color = color
		if s.finish(t.Context(), usage("bad")); !strings.HasPrefix(errs.String(), want) {
			t.Errorf("--color=%s: %q", color, errs)
		}
	}
}

func TestExplainKinds(t *testing.T) {
	faults := strict.Faults{{File: "plugin.yaml", Line: 3, Message: "is bad"}}
	for _, c := range []struct {
		name   string
		err    error
		reason string
		exit   int
	}{
		{"faults of a file", fmt.Errorf("read: %w", faults), "BAD_FILE", exitUsage},
		{"faults in a problem", pluginproblem.Wrap(faults, "x was not installed", "", false), "BAD_FILE", exitUsage},
		{"refused faults", pluginproblem.Wrap(faults, "x was not installed", "", true), "REFUSED", exitRefused},
		{"refused, deep down", fmt.Errorf("a: %w", errors.Join(io.EOF, fmt.Errorf("b: %w", pluginsdir.ErrRefused))), "REFUSED", exitRefused},
		{"refused by a problem", pluginproblem.Refused("no", "", ""), "REFUSED", exitRefused},
		{"an unknown group", fmt.Errorf("look up group: %w", user.UnknownGroupError("mk")), "BAD_SETTING", exitUsage},
		{"canceled, but not by the user", context.Canceled, "FAILED", exitFailed},
		{"anything else", io.ErrUnexpectedEOF, "FAILED", exitFailed},
	} {
		if p := explain(t.Context(), c.err); p.Reason != c.reason || p.exit != c.exit {
			t.Errorf("%s: %s, exit %d; want %s, %d", c.name, p.Reason, p.exit, c.reason, c.exit)
		}
	}
}

func TestExplainInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p := explain(ctx, fmt.Errorf("wait: %w", context.Canceled)); p.Reason != "INTERRUPTED" || p.exit != exitInterrupted {
		t.Errorf("a canceled wait is %s, exit %d", p.Reason, p.exit)
	}
	if p := explain(ctx, io.ErrUnexpectedEOF); p.Reason != "FAILED" {
		t.Errorf("a fault after Ctrl-C is %s", p.Reason)
	}
}

func TestNeedsRoot(t *testing.T) {
	err := &fs.PathError{Op: "open", Path: "/var/lib/mk/node.json", Err: syscall.EACCES}
	if p := needsRoot(fmt.Errorf("read: %w", err), 1000); p == nil || p.exit != exitNeedsRoot {
		t.Errorf("who may not read is told %v", p)
	}
	if p := needsRoot(err, 0); p != nil {
		t.Errorf("root is told to become root: %v", p)
	}
	if p := needsRoot(io.EOF, 1000); p != nil {
		t.Errorf("another fault is %v", p)
	}
}

func TestFaultySettingsAreUsage(t *testing.T) {
	s, _, errs := testSession(t, "pretty")
	if err := os.MkdirAll(s.global.root, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.global.root, "settings.yaml"), []byte("key-type: dsa\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := newApp(s).RunContext(t.Context(), []string{"mk", "--root", s.global.root, "status"})
	if exit := s.finish(t.Context(), err); exit != exitUsage || !strings.Contains(errs.String(), "settings.yaml:1\n") {
		t.Errorf("exit %d: %s", exit, errs)
	}
}

func TestFirstLines(t *testing.T) {
	long := strings.Repeat("word ", 40)
	for _, c := range []struct{ message, why, first, then string }{
		{"short", "", "short", ""},
		{"a\nb", "c", "a", "b\nc"},
		{"open the file: " + long, "", "open the file", strings.TrimSpace(long)},
		{"open the file: " + long, long, "open the file", long},
	} {
		p := explain(t.Context(), &problem{Message: c.message, Why: c.why})
		if p.Message != c.first || p.Why != c.then {
			t.Errorf("%q: %q, why %q", c.message, p.Message, p.Why)
		}
	}
	if p := explain(t.Context(), errors.New(long)); len([]rune("mk: "+p.Message)) > 100 || p.Why == "" {
		t.Errorf("%d letters: %q, why %q", len([]rune(p.Message)), p.Message, p.Why)
	}
}

func TestInterrupt(t *testing.T) {
	for signal, want := range map[os.Signal]string{
		os.Interrupt:    "stopping at the next safe step; again to stop now\nchange 12 stands open: mk changes show 12\n",
		syscall.SIGTERM: "change 12 stands open: mk changes show 12\n",
	} {
		signals := make(chan os.Signal, 2)
		signals <- signal
		signals <- signal
		ctx, cancel := context.WithCancel(t.Context())
		var said bytes.Buffer
		s, _, _ := testSession(t, "pretty")
		s.stands.Store(12)
		interrupt(signals, &said, cancel, s.standing)
		if ctx.Err() == nil || said.String() != want {
			t.Errorf("%v: %v, said %q", signal, ctx.Err(), said.String())
		}
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext\n":             "plain\ttext\n",
		"\x1b[31mred\x1b[0m":        "[31mred[0m",
		"\x1b]0;title\x07x":         "]0;titlex",
		"back\b\b\rover":            "backover",
		"c1 \u009b2J, bidi \u202ex": "c1 2J, bidi x",
		"größe ≥ 1…":                "größe ≥ 1…",
		"bad \xff":                  "bad \uFFFD",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	s, out, errs := testSession(t, "pretty")
	if err := s.show(nil, func(w io.Writer) error {
		_, err := fmt.Fprint(w, "a\x1b[2Jb")
		return err
	}); err != nil || out.String() != "a[2Jb" {
		t.Errorf("%v: %q", err, out)
	}
	s.finish(t.Context(), &problem{Message: "m\x1b", Why: "w\x1b", Next: []string{"n\x1b"}})
	s.note("%s", "x\x1b")
	if strings.Contains(errs.String(), "\x1b") {
		t.Errorf("%q", errs)
	}
}

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, mode: "json"}
	p.line("end", "a \x1b \"step\" \u00fc", 1260*time.Millisecond, io.EOF)
	var got progressLine
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	if want := (progressLine{"end", "a \x1b \"step\" \u00fc", 1.3, true}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	out.Reset()
	p.mode = "plain"
	p.line("detail", "x\x1b[2J", 0, nil)
	if out.String() != "  x[2J\n" {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	p.mode, p.step = "terminal", "wait"
	p.line("begin", "wait", 0, nil)
	p.line("detail", strings.Repeat("x\x1b[2J", 90), 0, nil)
	p.line("end", "wait", 1260*time.Millisecond, nil)
	lines := strings.Split(out.String(), "\r")
	if len(lines) != 4 || lines[1] != "wait ...\x1b[K" || len(lines[2]) != lineWidth+len("\x1b[K") || lines[3] != "wait: 1.3 s\x1b[K\n" {
		t.Errorf("%q", lines)
	}
}
