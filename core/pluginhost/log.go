package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxLine is how much of one line is kept; the rest of it is dropped.
	maxLine = 256 << 10
	// keptLines is how many lines an error report can show, keptLine how much
	// of each.
	keptLines = 200
	keptLine  = 4 << 10
)

// logger parses what a plugin writes to stderr. It is an io.Writer that never
// fails and never blocks. go-plugin's own parser is not used: a line such as
// {"@message":5} makes it panic.
type logger struct {
	out hclog.Logger

	mu     sync.Mutex
	stderr []byte // a line that has not ended
	stdout []byte
	ring   []string
	next   int
	panic  []string // the first panic and what follows it
	taken  int64    // bytes of stderr so far
	early  int64    // those up to here came before the handshake, where plain lines matter more
}

// panicLines is how much of a panic is kept.
const panicLines = 12

func newLogger(out hclog.Logger) *logger { return &logger{out: out, early: math.MaxInt64} }

// Write takes any bytes.
func (l *logger) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.split(&l.stderr, p, func(n int) hclog.Level {
		if l.taken += int64(n); l.taken > l.early {
			return hclog.Debug
		}
		return hclog.Info
	})
	return len(p), nil
}

// plain takes what the plugin prints to standard output after the handshake.
func (l *logger) plain() io.Writer { return stdoutOf{l} }

type stdoutOf struct{ l *logger }

func (s stdoutOf) Write(p []byte) (int, error) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.split(&s.l.stdout, p, func(int) hclog.Level { return hclog.Debug })
	return len(p), nil
}

// split hands on whole lines, with the level that plain ones have by what of
// the stream was taken.
func (l *logger) split(partial *[]byte, p []byte, take func(n int) hclog.Level) {
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		room := maxLine - len(*partial)
		*partial = append(*partial, line[:min(len(line), room)]...)
		plain := take(len(p) - len(rest))
		if whole {
			l.line(*partial, plain)
			*partial = (*partial)[:0]
		}
		p = rest
	}
}

// line hands one line to the host's log.
func (l *logger) line(raw []byte, plain hclog.Level) {
	text := printable(strings.TrimRight(string(raw), "\r"))
	if text == "" {
		return
	}
	level, message, fields := parseLine(text)
	l.keep(message, fields, text)
	if level == hclog.NoLevel {
		level = plain
		if isPanic(text) || len(l.panic) > 1 {
			level = hclog.Error
		}
	}
	l.out.Log(level, message, fields...)
}

func isPanic(text string) bool {
	return strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:")
}

// printable takes out what a terminal would obey, and what is no UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// keep remembers a line for error reports: the text for people where the line
// was an hclog record, else the line.
func (l *logger) keep(message string, fields []any, text string) {
	if message != text {
		text = message
		for i := 0; i+1 < len(fields); i += 2 {
			text += printable(fmt.Sprintf(" %v=%v", fields[i], fields[i+1]))
		}
	}
	if len(text) > keptLine {
		text = strings.ToValidUTF8(text[:keptLine], "") + "…"
	}
	if isPanic(text) && l.panic == nil || len(l.panic) > 0 && len(l.panic) < panicLines {
		l.panic = append(l.panic, text)
	}
	if len(l.ring) < keptLines {
		l.ring = append(l.ring, text)
		return
	}
	l.ring[l.next] = text
	l.next = (l.next + 1) % keptLines
}

// Lines are the last lines, oldest first.
func (l *logger) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]string, 0, len(l.ring)+1)
	out = append(out, l.ring[l.next:]...)
	out = append(out, l.ring[:l.next]...)
	if len(l.stderr) > 0 {
		out = append(out, printable(string(l.stderr[:min(len(l.stderr), keptLine)])))
	}
	return out
}

// Panic is the block of a Go panic, if the plugin wrote one. It is kept even
// if so much followed that Lines has lost it.
func (l *logger) Panic() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.panic, "\n")
}

// handshake says how many bytes of stderr were written before it.
func (l *logger) handshake(before int64) {
	l.mu.Lock()
	l.early = before
	l.mu.Unlock()
}

// parseLine understands go-hclog's JSON. Whatever is not exactly that is text.
// Nothing about the types of its fields is taken for granted.
func parseLine(text string) (hclog.Level, string, []any) {
	if !strings.HasPrefix(text, "{") {
		return hclog.NoLevel, text, nil
	}
	var record map[string]any
	if json.Unmarshal([]byte(text), &record) != nil {
		return hclog.NoLevel, text, nil
	}
	message, ok := record["@message"].(string)
	if !ok {
		return hclog.NoLevel, text, nil
	}
	level := hclog.NoLevel
	if s, ok := record["@level"].(string); ok {
		level = hclog.LevelFromString(s)
	}
	if level < hclog.NoLevel || level >= hclog.Off {
		level = hclog.NoLevel
	}
	var fields []any
	for _, k := range slices.Sorted(maps.Keys(record)) {
		if !strings.HasPrefix(k, "@") {
			fields = append(fields, printable(k), cleaned(record[k]))
		}
	}
	return level, printable(message), fields
}

// cleaned makes text of a field printable; a stack keeps its lines.
func cleaned(v any) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}
