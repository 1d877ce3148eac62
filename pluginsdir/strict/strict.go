// Package strict reads YAML and JSON that people or strangers wrote into Go
// values: nothing unknown, nothing twice, nothing of the wrong type passes, and
// all faults are told at once with their file and line.
//
// Anchors, aliases, merges and several documents are refused, so that what is
// read is never larger than what was written.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds nesting; nothing that we read comes near it.
const maxDepth = 64

// maxFaults bounds how many faults are told.
const maxFaults = 50

// Fault is one thing that is wrong with a file.
type Fault struct {
	File    string
	Line    int
	Path    string // for example grants.filesWrite[2]
	Message string
}

// Error is file:line: path: message.
func (f Fault) Error() string {
	s := f.Message
	if f.Path != "" {
		s = f.Path + ": " + s
	}
	if f.Line == 0 {
		return f.File + ": " + s
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, s)
}

// Faults are all that is wrong with a file, one a line.
type Faults []Fault

// Error joins them.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Document is a file that was read: it knows the line of every field, so that
// later checks can name it.
type Document struct {
	file   string
	root   *yaml.Node
	lines  map[string]int
	faults Faults
	text   bool // values may hold any character
}

// Read parses data, of at most limit bytes. The error is of type Faults.
func Read(data []byte, file string, limit int) (*Document, error) {
	return read(data, limit, &Document{file: file, lines: map[string]int{}})
}

// ReadAnyText is Read for files whose values are never shown as they are: they
// may hold control characters.
func ReadAnyText(data []byte, file string, limit int) (*Document, error) {
	return read(data, limit, &Document{file: file, lines: map[string]int{}, text: true})
}

func read(data []byte, limit int, d *Document) (*Document, error) {
	file := d.file
	if len(data) > limit {
		return nil, Faults{{File: file, Message: fmt.Sprintf("larger than %d bytes", limit)}}
	}
	if i := invalidUTF8(data); i >= 0 {
		line := 1 + strings.Count(string(data[:i]), "\n")
		return nil, Faults{{File: file, Line: line, Message: "is not UTF-8"}}
	}
	if json.Valid(data) {
		data = plainEscapes(data)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil, Faults{{File: file, Line: 1, Message: "is empty"}}
	case err != nil:
		return nil, Faults{syntaxFault(file, err)}
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, Faults{{File: file, Line: second.Line, Message: "holds a second document"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, Faults{syntaxFault(file, err)}
	}
	if len(root.Content) != 1 {
		return nil, Faults{{File: file, Line: 1, Message: "is empty"}}
	}
	d.root = root.Content[0]
	d.walk(d.root, "", 0)
	return d, d.Err()
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// plainEscapes replaces the two escapes of JSON that YAML does not have, an
// escaped slash and pairs of surrogates, in what is valid JSON. Lines stay.
func plainEscapes(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		if data[i] != '\\' {
			out, i = append(out, data[i]), i+1
			continue
		}
		if data[i+1] == '/' {
			out, i = append(out, '/'), i+2
			continue
		}
		high, ok := escaped(data[i:])
		if !ok || !utf16.IsSurrogate(high) {
			out, i = append(out, data[i:i+2]...), i+2
			continue
		}
		i += 6
		low, _ := escaped(data[i:])
		r := utf16.DecodeRune(high, low)
		if r != utf8.RuneError {
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// escaped reads \uXXXX.
func escaped(data []byte) (rune, bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	return rune(n), err == nil
}

// syntaxFault takes the line out of the parser's message.
func syntaxFault(file string, err error) Fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if _, e := fmt.Sscanf(text, "line %d:", &line); e == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return Fault{File: file, Line: line, Message: text}
}

// walk notes lines and refuses what no file of ours needs.
func (d *Document) walk(n *yaml.Node, path string, depth int) {
	if _, known := d.lines[path]; !known {
		d.lines[path] = n.Line
	}
	switch {
	case depth > maxDepth:
		d.fault(n.Line, path, "is nested too deeply")
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fault(n.Line, path, "anchors and aliases are not allowed")
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		d.walkMap(n, path, depth)
	case yaml.SequenceNode:
		for i, c := range n.Content {
			d.walk(c, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
	case yaml.ScalarNode:
		if c, bad := controlCharacter(n.Value); bad && !d.text {
			d.fault(n.Line, path, fmt.Sprintf("holds the control character %U", c))
		}
	}
}

func (d *Document) walkMap(n *yaml.Node, path string, depth int) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" || k.Anchor != "" {
			d.fault(k.Line, path, "a field's name must be a plain word")
			continue
		}
		if c, bad := controlCharacter(k.Value); bad {
			d.fault(k.Line, path, fmt.Sprintf("a field's name holds the control character %U", c))
			continue
		}
		p := join(path, k.Value)
		if seen[k.Value] {
			d.fault(k.Line, p, "is there twice")
			continue
		}
		seen[k.Value] = true
		d.lines[p] = k.Line
		d.walk(v, p, depth+1)
	}
}

// controlCharacter finds what could trick a terminal.
func controlCharacter(s string) (rune, bool) {
	for _, r := range s {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return r, true
		}
	}
	return 0, false
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// Line is the line of a field, or of the nearest one around it.
func (d *Document) Line(path string) int {
	for path != "" {
		if l, ok := d.lines[path]; ok {
			return l
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return d.lines[""]
}

// Fault notes that a field is wrong.
func (d *Document) Fault(path, format string, args ...any) {
	d.fault(d.Line(path), path, fmt.Sprintf(format, args...))
}

func (d *Document) fault(line int, path, message string) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{File: d.file, Line: line, Path: path, Message: message})
	}
}

// Err is everything noted so far as Faults, in the order of lines, or nil.
func (d *Document) Err() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int { return a.Line - b.Line })
	return d.faults
}

// Decode fills target, a pointer to a struct whose fields have json tags.
// Faults are noted, not returned: ask Err when all checks are done.
func (d *Document) Decode(target any) {
	d.decode(d.root, "", reflect.ValueOf(target).Elem())
}
