package pluginhost

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxLine is how much of one line is kept; the rest of it is dropped.
	maxLine = 256 << 10
	// keptLines is how many lines an error report can show.
	keptLines = 200
)

// logger parses what a plugin writes to stderr. It is an io.Writer that never
// fails and never blocks. go-plugin's own parser is not used: a line such as
// {"@message":5} makes it panic.
type logger struct {
	name string
	out  hclog.Logger

	mu      sync.Mutex
	partial []byte
	skip    bool // the line is longer than maxLine: its rest is dropped
	ring    []string
	next    int
	started bool // before the handshake plain lines matter more
}

// Write takes any bytes.
func (l *logger) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		if room := maxLine - len(l.partial); len(line) > room {
			line = line[:room]
			l.skip = !whole
		} else if l.skip {
			line = nil
			l.skip = !whole
		}
		l.partial = append(l.partial, line...)
		if whole {
			l.line(l.partial)
			l.partial = l.partial[:0]
		}
		p = rest
	}
	return n, nil
}

// line hands one line to the host's log.
func (l *logger) line(raw []byte) {
	text := strings.TrimRight(string(raw), "\r")
	if text == "" {
		return
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	level, message, fields := parseLine(text)
	l.keep(message, fields, text)
	if level == hclog.NoLevel {
		level = hclog.Debug
		if !l.started {
			level = hclog.Info
		}
		if strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:") {
			level = hclog.Error
		}
	}
	l.out.Log(level, message, fields...)
}

// keep remembers a line for error reports: the text for people where the line
// was an hclog record, else the line.
func (l *logger) keep(message string, fields []any, text string) {
	if len(fields) == 0 && message != "" {
		text = message
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
	if len(l.partial) > 0 {
		out = append(out, string(l.partial))
	}
	return out
}

// Panic is the block of a Go panic, if the plugin wrote one.
func (l *logger) Panic() string {
	lines := l.Lines()
	for i, s := range lines {
		if strings.HasPrefix(s, "panic:") || strings.HasPrefix(s, "fatal error:") {
			return strings.Join(lines[i:min(i+12, len(lines))], "\n")
		}
	}
	return ""
}

func (l *logger) handshakeDone() {
	l.mu.Lock()
	l.started = true
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
	var fields []any
	for _, k := range slices.Sorted(maps.Keys(record)) {
		if !strings.HasPrefix(k, "@") {
			fields = append(fields, k, record[k])
		}
	}
	return level, message, fields
}
