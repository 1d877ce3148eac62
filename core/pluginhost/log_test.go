package pluginhost

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// What a plugin logs at its start and later, as a process, through go-plugin.
func TestWhatPluginsLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.start(r.spec("AT_START=log"))
	must(t, p, "log a plain line later")
	must(t, p, `log {"@message":5,"x":"later"}`)
	must(t, p, `log {"@level":"warn","@message":"a warning\nof two lines","stack":"a\nb"}`)
	must(t, p, "log panic: only a line")
	must(t, p, "nothing") // it still answers
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"@message":5}`: "info", "m": "info", "fine": "info", `{"@message"`: "info", "[]": "info", "xxxxxxxx": "info", "off": "info",
		"bad \uFFFD utf8": "info", "a plain line at the start": "info", "escape \uFFFD[2J done": "info",
		"a plain line later": "debug", `{"@message":5,"x":"later"}`: "debug", "a warning\uFFFDof two lines": "warn", "panic: only a line": "error",
	} {
		if got := r.log.level(text); got != want {
			t.Errorf("%q was logged at %q, not %s", text, got, want)
		}
	}
	if lines := strings.Join(p.log.Lines(), "\n"); !strings.Contains(lines, "a plain line later\n") || !strings.Contains(lines, "a warning\uFFFDof two lines stack=a\uFFFDb\n") || len(lines) > keptLines*(keptLine+8) {
		t.Error(len(lines), "characters kept")
	}
}

// Standard output stays read after the handshake, however long its lines are.
func TestWhatPluginsPrint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.start(r.program(build(t, "bare"), "BARE=printer"))
	for range 2 {
		if err := p.Plugin().Health(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 3*time.Second, "logged", func() bool { return r.log.level("printed behind 200 KiB") == "debug" })
}

func TestLongLines(t *testing.T) {
	t.Parallel()
	out := &record{}
	l := newLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: true, Output: out}))
	for range 1 << 10 {
		_, _ = l.Write(bytes.Repeat([]byte("y"), 1<<10))
	}
	if cap(l.stderr) > 2*maxLine {
		t.Errorf("%d bytes are kept of a line", cap(l.stderr))
	}
	_, _ = l.Write([]byte("end of the long line\nnext\n"))
	if out.level("next") != "info" || out.level("end of") != "" || out.level("yyyy") != "info" {
		t.Error("the line after a long one is not whole")
	}
	for range 3 * keptLines {
		_, _ = l.Write([]byte("again\n"))
	}
	if lines := l.Lines(); len(lines) != keptLines || lines[0] != "again" {
		t.Errorf("%d lines", len(lines))
	}
}

func TestAPanicIsKept(t *testing.T) {
	t.Parallel()
	l := newLogger(hclog.NewNullLogger())
	if l.Panic() != "" {
		t.Error(l.Panic())
	}
	_, _ = l.Write([]byte("before\nfatal error: all goroutines are asleep\n\ngoroutine 1 [running]:\n" + strings.Repeat("frame\n", 500)))
	if got := l.Panic(); !strings.HasPrefix(got, "fatal error: all goroutines are asleep\ngoroutine 1") || strings.Count(got, "\n") != panicLines-1 {
		t.Error(got)
	}
}

// Whatever a plugin writes, in whatever pieces: the host's log stays JSON
// lines, and what is kept is printable and bounded.
func FuzzLog(f *testing.F) {
	for _, line := range oddLines() {
		f.Add([]byte(line+"\n"), 3)
	}
	f.Add([]byte("panic: x\n\ngoroutine 1 [running]:\n"), 1)
	f.Add([]byte(`{"@message":"a","@level":"trace","k":{"a":null},"@x":1,"\u001b":"\u0000"}`+"\r\n"), 100)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		var out bytes.Buffer
		l := newLogger(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: true, Output: &out}))
		stdout := l.plain()
		for rest := data; len(rest) > 0; {
			n := min(max(piece, 1), len(rest))
			if wrote, err := l.Write(rest[:n]); wrote != n || err != nil {
				t.Fatal(wrote, err)
			}
			_, _ = stdout.Write(rest[:n])
			rest = rest[n:]
		}
		for line := range bytes.Lines(out.Bytes()) {
			var record map[string]any
			if err := json.Unmarshal(line, &record); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
		for _, line := range append(l.Lines(), l.Panic()) {
			if !utf8.ValidString(line) || len(line) > panicLines*(keptLine+8) || strings.ContainsAny(line, "\x1b\x00\r") {
				t.Fatalf("kept %q", line)
			}
		}
	})
}
