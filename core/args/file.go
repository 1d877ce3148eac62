// Package args reads and changes the args/<service> files: one option a line,
// `--name=value`, `--name value` or `--name`, with comments and blank lines.
//
// It guarantees that what is not changed stays byte for byte, that a value
// comes back exactly as it was set, that no option is taken for another whose
// name begins the same, and that nothing in a file is ever given to a shell or
// filled in from the environment. It writes no file: the caller writes Bytes
// through core/node. It knows no option's meaning; the program judges that.
package args

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
)

// MaxFile is the most that Parse and Load take.
const MaxFile = 1 << 20

// Option is one option of a file, in the order of its lines.
type Option struct {
	Name     string
	Value    string
	HasValue bool // `--name=` has an empty one, `--name` has none
	Line     int  // from 1
}

// File is a parsed file. It is not safe for use by several goroutines.
type File struct {
	lines   []line
	eol     string
	owners  *Owners
	service string
}

// line is one line as it stands; name is empty for comments and blank lines.
type line struct {
	raw, eol string
	name     string
	value    string
	hasValue bool
}

// SyntaxError is a fault in one line.
type SyntaxError struct {
	File  string // empty if the text came from no file
	Line  int
	Fault string
}

func (e *SyntaxError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Fault)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Fault)
}

// Load reads and parses a file. The error is fs.ErrNotExist where there is
// none, and otherwise names the file and the line.
func Load(name string) (*File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read arguments: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(f, MaxFile+1))
	}
	if err != nil {
		return nil, fmt.Errorf("read arguments: %s: %w", name, err)
	}
	return parse(name, data)
}

// Parse reads the text of a file. It reports up to ten faults at once, each a
// SyntaxError.
func Parse(data []byte) (*File, error) { return parse("", data) }

func parse(name string, data []byte) (*File, error) {
	if len(data) > MaxFile {
		return nil, &SyntaxError{File: name, Line: 1, Fault: fmt.Sprintf("the file is larger than %d bytes", MaxFile)}
	}
	f := &File{eol: "\n"}
	var faults []error
	for rest := string(data); rest != ""; {
		raw, eol := rest, ""
		if i := strings.IndexByte(rest, '\n'); i >= 0 {
			raw, eol = rest[:i], "\n"
			if strings.HasSuffix(raw, "\r") {
				raw, eol = raw[:i-1], "\r\n"
			}
		}
		rest = rest[len(raw)+len(eol):]
		if len(f.lines) == 0 && eol != "" {
			f.eol = eol
		}
		l, err := parseLine(raw)
		if err != nil {
			faults = append(faults, &SyntaxError{File: name, Line: len(f.lines) + 1, Fault: err.Error()})
			if len(faults) == 10 {
				break
			}
		}
		l.eol = eol
		f.lines = append(f.lines, l)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return f, nil
}

// Bytes is the text of the file.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l.raw)
		b.WriteString(l.eol)
	}
	return b.Bytes()
}

// Options lists all options in their order.
func (f *File) Options() []Option {
	var out []Option
	for i, l := range f.lines {
		if l.name != "" {
			out = append(out, Option{Name: l.name, Value: l.value, HasValue: l.hasValue, Line: i + 1})
		}
	}
	return out
}

// Argv is what the program is started with: `--name=value` even where the file
// has a space, so that `--flag false` means what it says.
func (f *File) Argv() []string {
	var out []string
	for _, o := range f.Options() {
		if o.HasValue {
			out = append(out, "--"+o.Name+"="+o.Value)
		} else {
			out = append(out, "--"+o.Name)
		}
	}
	return out
}

// Get is the value of an option; of a repeated one the last, which is the one
// that counts for a program that takes one. An option without a value is "".
func (f *File) Get(name string) (string, bool) {
	for _, l := range slices.Backward(f.lines) {
		if l.name == name && name != "" {
			return l.value, true
		}
	}
	return "", false
}

// All is the values of a repeated option in their order.
func (f *File) All(name string) []string {
	var out []string
	for _, o := range f.Options() {
		if o.Name == name {
			out = append(out, o.Value)
		}
	}
	return out
}

// Set gives an option one value: in its place if it is there, further ones of
// the name removed, else at the end. A line that says so already stays as it
// is written. On an error the file is as it was.
func (f *File) Set(name, value string) error { return f.SetAll(name, []string{value}) }

// SetAll gives a repeated option its values, together in the first one's
// place; none removes it.
func (f *File) SetAll(name string, values []string) error {
	lines, err := valueLines(name, values)
	if err != nil {
		return err
	}
	return f.put(name, lines)
}

// SetFlag sets an option without a value.
func (f *File) SetFlag(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return f.put(name, []line{{raw: "--" + name, name: name}})
}

// Unset removes an option, all of its lines and no other; false if there was
// none.
func (f *File) Unset(name string) bool {
	before := len(f.lines)
	f.replace(name, nil)
	return len(f.lines) != before
}

// put refuses what would make the file too large to be read again.
func (f *File) put(name string, want []line) error {
	size := 0
	for _, l := range f.lines {
		if l.name != name {
			size += len(l.raw) + len(l.eol)
		}
	}
	for _, l := range want {
		size += len(l.raw) + 2
	}
	if size+2 > MaxFile {
		return fmt.Errorf("set --%s: the file would be larger than %d bytes", name, MaxFile)
	}
	f.replace(name, want)
	return nil
}

// replace makes want the lines of an option.
func (f *File) replace(name string, want []line) {
	if sameSettings(f.linesOf(name), want) {
		return
	}
	out := make([]line, 0, len(f.lines)+len(want))
	place := func() {
		for _, l := range want {
			l.eol = f.eol
			out = append(out, l)
		}
		want = nil
	}
	for _, l := range f.lines {
		if l.name != name {
			out = append(out, l)
			continue
		}
		place()
	}
	if len(want) > 0 {
		if n := len(out); n > 0 && out[n-1].eol == "" {
			out[n-1].eol = f.eol
		}
		place()
	}
	f.lines = out
}

func (f *File) linesOf(name string) []line {
	var out []line
	for _, l := range f.lines {
		if l.name == name {
			out = append(out, l)
		}
	}
	return out
}

func sameSettings(a, b []line) bool {
	return slices.EqualFunc(a, b, func(x, y line) bool {
		return x.name == y.name && x.value == y.value && x.hasValue == y.hasValue
	})
}
