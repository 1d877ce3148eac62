package logfile

import (
	"regexp"
	"strconv"
	"time"
)

// Level is how bad a line is.
type Level int

// The levels, in their order.
const (
	Info Level = iota
	Warning
	Error
)

// String is the level's word.
func (l Level) String() string { return [...]string{"info", "warning", "error"}[l] }

// Entry is one line of a log. A line that carries no time, as those of a
// trace, has the time and the level of the line before it.
type Entry struct {
	Node    string // that wrote it, where it came from another
	Service string
	Time    time.Time // zero where no line before it had one
	Level   Level
	Text    string
}

// Reader reads the lines of one log, in their order. It knows the forms in
// which Kubernetes, etcd, containerd, flannel and mk write time and level.
type Reader struct {
	service     string
	now         time.Time
	last        Entry
	err, warn   *regexp.Regexp
	klog, stamp *regexp.Regexp
}

// ParseLevel reads a level's word.
func ParseLevel(word string) (Level, bool) {
	for _, l := range []Level{Info, Warning, Error} {
		if l.String() == word {
			return l, true
		}
	}
	return 0, false
}

// NewReader makes a reader. klog leaves the year out: it is that of now, or
// the one before. now's location is that of times without one.
func NewReader(service string, now time.Time) *Reader {
	return &Reader{
		service: service, now: now, err: regexp.MustCompile(errorPattern),
		warn:  regexp.MustCompile(`^W\d{4} \d\d:\d\d:\d\d|(?i)\blevel="?warn|(?i)"level":\s*"warn|\s\[?WARN(ING)?\]?[\s:]`),
		klog:  regexp.MustCompile(`^[IWEF](\d{4} \d\d:\d\d:\d\d\.\d{1,9}) `),
		stamp: regexp.MustCompile(`^(?:time="?|\{.{0,200}?"ts":\s*"?)?(\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?|\d{9,10}\.\d+)`),
	}
}

// Entry judges the next line.
func (r *Reader) Entry(line string) Entry {
	e := Entry{Service: r.service, Text: line}
	at, timed := r.when(line)
	switch {
	case r.err.MatchString(line):
		e.Level = Error
	case r.warn.MatchString(line):
		e.Level = Warning
	case !timed:
		e.Level = r.last.Level
	}
	if e.Time = at; !timed {
		e.Time = r.last.Time
	}
	r.last = e
	return e
}

func (r *Reader) when(line string) (time.Time, bool) {
	if m := r.klog.FindStringSubmatch(line); m != nil {
		at, err := time.ParseInLocation("20060102 15:04:05", strconv.Itoa(r.now.Year())+m[1], r.now.Location())
		if err != nil {
			return time.Time{}, false
		}
		if at.After(r.now.Add(24 * time.Hour)) {
			at = at.AddDate(-1, 0, 0)
		}
		return at, true
	}
	m := r.stamp.FindStringSubmatch(line)
	if m == nil {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05", "2006/01/02 15:04:05", "2006-01-02T15:04:05"} {
		if at, err := time.ParseInLocation(layout, m[1], r.now.Location()); err == nil {
			return at, true
		}
	}
	if seconds, err := strconv.ParseFloat(m[1], 64); err == nil {
		return time.Unix(0, int64(seconds*1e9)), true
	}
	return time.Time{}, false
}
