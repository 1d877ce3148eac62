package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxFile is the most of a settings file that is read.
const MaxFile = 1 << 20

// Origin is where a value comes from.
type Origin string

// The origins, the strongest first.
const (
	FromFlag    Origin = "flag"
	FromEnv     Origin = "environment"
	FromFile    Origin = "file"
	FromDefault Origin = "default"
)

// Value is a setting as it counts.
type Value struct {
	Key    Key
	Value  string
	Origin Origin
	Where  string // the variable, or file:line; empty for a flag or the default
}

// Shown is the value for people: *** for a secret that is set.
func (v Value) Shown() string {
	if v.Key.Secret && v.Value != "" {
		return "***"
	}
	return v.Value
}

// Settings is the settings of one node, not safe for several goroutines.
type Settings struct {
	path  string
	doc   yaml.Node
	file  map[string]Value
	env   map[string]Value
	flags map[string]Value
}

// Load reads a settings file and the MK_* variables; a file that is not there
// is an empty one. It reports all faults of both at once: those of the file
// with its name and the line.
func Load(path string, env func(string) string) (*Settings, error) {
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read settings: %s: %w", path, err)
	}
	return Parse(path, data, env)
}

// Parse is Load for a text that was read already; faults name it by path.
func Parse(path string, data []byte, env func(string) string) (*Settings, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, MaxFile)
	}
	s := &Settings{path: path, env: map[string]Value{}, flags: map[string]Value{}}
	err := s.parse(data)
	for _, k := range Keys() {
		v := env(k.Env())
		if v == "" {
			continue
		}
		if fault := k.Check(v); fault != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", k.Env(), fault))
		}
		s.env[k.Name] = Value{Key: k, Value: v, Origin: FromEnv, Where: k.Env()}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Override sets a value that a flag gave for this run.
func (s *Settings) Override(name, value string) error {
	k, err := checked(name, value)
	if err == nil {
		s.flags[name] = Value{Key: k, Value: value, Origin: FromFlag}
	}
	return err
}

// Get is a setting as it counts.
func (s *Settings) Get(name string) (Value, error) {
	k, err := Find(name)
	if err != nil {
		return Value{}, err
	}
	for _, from := range []map[string]Value{s.flags, s.env, s.file} {
		if v, ok := from[name]; ok {
			return v, nil
		}
	}
	return Value{Key: k, Value: k.Default, Origin: FromDefault}, nil
}

// Duration is a setting of that type.
func (s *Settings) Duration(name string) (time.Duration, error) {
	v, err := s.Get(name)
	if err != nil {
		return 0, err
	}
	d, err := ParseDuration(v.Value)
	if err != nil {
		return 0, fmt.Errorf("%s: %q %w", name, v.Value, err)
	}
	return d, nil
}

// All is every setting as it counts, sorted by name.
func (s *Settings) All() []Value {
	var out []Value
	for _, k := range Keys() {
		if v, err := s.Get(k.Name); err == nil {
			out = append(out, v)
		}
	}
	return out
}

// Set changes a setting in the file. What the environment or a flag says
// still counts before it. On an error nothing is changed.
func (s *Settings) Set(name, value string) error {
	k, err := checked(name, value)
	if err != nil {
		return err
	}
	m := s.mapping()
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if k.Type == Bool {
		node.Tag = "!!bool"
	}
	if i := slices.IndexFunc(m.Content, func(n *yaml.Node) bool { return n.Value == name }); i >= 0 && i%2 == 0 {
		node.LineComment = m.Content[i+1].LineComment
		m.Content[i+1] = node
	} else {
		m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, node)
	}
	return s.reread()
}

// Unset takes a setting out of the file; it is no error if it is not there.
func (s *Settings) Unset(name string) error {
	if _, err := Find(name); err != nil {
		return err
	}
	m := s.mapping()
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			m.Content = slices.Delete(m.Content, i, i+2)
			break
		}
	}
	return s.reread()
}

// Bytes is the file as it is to be written.
func (s *Settings) Bytes() ([]byte, error) {
	if s.doc.Kind == 0 || len(s.mapping().Content) == 0 && s.doc.HeadComment+s.doc.FootComment == "" {
		return nil, nil
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&s.doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	return b.Bytes(), nil
}

func (s *Settings) reread() error {
	data, err := s.Bytes()
	if err != nil {
		return err
	}
	return s.parse(data)
}

func (s *Settings) mapping() *yaml.Node {
	if s.doc.Kind == 0 {
		s.doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}
	}
	return s.doc.Content[0]
}

// parse takes the text of a file, or leaves the settings as they are.
func (s *Settings) parse(data []byte) error {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if err == nil {
		var more yaml.Node
		if !errors.Is(dec.Decode(&more), io.EOF) {
			return fmt.Errorf("%s:%d: more than one document", s.path, max(1, more.Line))
		}
	}
	if errors.Is(err, io.EOF) {
		doc, err = yaml.Node{}, nil
	}
	if err != nil {
		return fmt.Errorf("%s:%w", s.path, atLine(err))
	}
	if doc.Kind != 0 && doc.Content[0].Tag == "!!null" {
		doc.Content[0] = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	file, err := s.values(&doc)
	if err != nil {
		return err
	}
	s.doc, s.file = doc, file
	return nil
}

func (s *Settings) values(doc *yaml.Node) (map[string]Value, error) {
	out := map[string]Value{}
	if doc.Kind == 0 {
		return out, nil
	}
	m := doc.Content[0]
	if m.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: expected lines of the form key: value", s.path, max(1, m.Line))
	}
	var faults []error
	fault := func(n *yaml.Node, err error) { faults = append(faults, fmt.Errorf("%s:%d: %w", s.path, n.Line, err)) }
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		k, err := Find(key.Value)
		switch _, twice := out[key.Value]; {
		case key.Kind != yaml.ScalarNode || err != nil:
			fault(key, cmpErr(err, errors.New("a key is a word")))
		case twice:
			fault(key, fmt.Errorf("%s a second time", k.Name))
		case value.Kind != yaml.ScalarNode || value.Anchor != "" || value.Tag == "!!null" || value.Tag == "!!binary":
			fault(value, fmt.Errorf("%s: expected one value", k.Name))
		default:
			if err := k.Check(value.Value); err != nil {
				fault(value, err)
			}
			out[k.Name] = Value{Key: k, Value: value.Value, Origin: FromFile, Where: s.path + ":" + strconv.Itoa(value.Line)}
		}
	}
	return out, errors.Join(faults...)
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// atLine turns "yaml: line 3: x" into "3: x".
func atLine(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	m := regexp.MustCompile(`(?s)^line (\d+): (.*)`).FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("1: %s", text)
	}
	return fmt.Errorf("%s: %s", m[1], m[2])
}

func checked(name, value string) (Key, error) {
	k, err := Find(name)
	if err != nil {
		return k, err
	}
	return k, k.Check(value)
}

func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, cmpErr(err, errors.New("not a file"))
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = fmt.Errorf("larger than %d bytes", MaxFile)
	}
	return data, err
}
