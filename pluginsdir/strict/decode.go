package strict

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var (
	rawType  = reflect.TypeFor[json.RawMessage]()
	timeType = reflect.TypeFor[time.Time]()
)

// decode knows the types that our files are made of; any other is a mistake of
// the program and panics in the first test that meets it.
func (d *Document) decode(n *yaml.Node, path string, v reflect.Value) {
	switch {
	case v.Type() == rawType:
		d.decodeRaw(n, path, v)
		return
	case v.Type() == timeType:
		d.decodeTime(n, path, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.Tag == "!!null" {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, path, v.Elem())
	case reflect.Struct:
		d.decodeStruct(n, path, v)
	case reflect.Slice:
		d.decodeSlice(n, path, v)
	case reflect.Map:
		d.decodeMap(n, path, v)
	case reflect.String:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			d.Fault(path, "must be text%s", quoteHint(n))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Tag != "!!bool" || err != nil {
			d.Fault(path, "must be true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Tag != "!!int" || err != nil || v.OverflowInt(i) {
			d.Fault(path, "must be a whole number")
			return
		}
		v.SetInt(i)
	default:
		panic(fmt.Sprintf("strict: %s: cannot read into %s", path, v.Type()))
	}
}

// quoteHint helps where YAML took a version for a number.
func quoteHint(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return fmt.Sprintf(": write %q in quotes", n.Value)
	}
	return ""
}

func (d *Document) decodeStruct(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.Fault(path, "must be a set of fields")
		return
	}
	fields := map[string]reflect.Value{}
	collectFields(v, fields)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		f, ok := fields[name]
		if !ok {
			d.fault(n.Content[i].Line, join(path, name), "unknown field"+nearest(name, fields))
			continue
		}
		d.decode(n.Content[i+1], join(path, name), f)
	}
}

func collectFields(v reflect.Value, fields map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			collectFields(v.Field(i), fields)
		case name != "" && name != "-":
			fields[name] = v.Field(i)
		}
	}
}

// nearest offers the field that was probably meant.
func nearest(name string, fields map[string]reflect.Value) string {
	best, name := "", strings.ToLower(name)
	for f := range fields {
		l := strings.ToLower(f)
		if l == name || (len(name) > 3 && (strings.HasPrefix(l, name) || strings.HasPrefix(name, l))) {
			if best == "" || f < best {
				best = f
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

func (d *Document) decodeSlice(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.Fault(path, "must be a list")
		return
	}
	if len(n.Content) == 0 {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.decode(c, fmt.Sprintf("%s[%d]", path, i), s.Index(i))
	}
	v.Set(s)
}

func (d *Document) decodeMap(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.Fault(path, "must be a set of fields")
		return
	}
	if len(n.Content) == 0 {
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(n.Content[i+1], join(path, n.Content[i].Value), e)
		m.SetMapIndex(reflect.ValueOf(n.Content[i].Value), e)
	}
	v.Set(m)
}

func (d *Document) decodeTime(n *yaml.Node, path string, v reflect.Value) {
	t, err := time.Parse(time.RFC3339, n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.Fault(path, "must be a time like 2006-01-02T15:04:05Z")
		return
	}
	v.Set(reflect.ValueOf(t.UTC()))
}

// decodeRaw keeps any value as JSON.
func (d *Document) decodeRaw(n *yaml.Node, path string, v reflect.Value) {
	value, ok := d.any(n, path)
	if !ok {
		return
	}
	raw, err := json.Marshal(value)
	if err != nil {
		d.Fault(path, "cannot be written as JSON: %v", err)
		return
	}
	v.SetBytes(raw)
}

func (d *Document) any(n *yaml.Node, path string) (any, bool) {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		good := true
		for i := 0; i+1 < len(n.Content); i += 2 {
			value, ok := d.any(n.Content[i+1], join(path, n.Content[i].Value))
			m[n.Content[i].Value], good = value, good && ok
		}
		return m, good
	case yaml.SequenceNode:
		s := make([]any, len(n.Content))
		good := true
		for i, c := range n.Content {
			value, ok := d.any(c, fmt.Sprintf("%s[%d]", path, i))
			s[i], good = value, good && ok
		}
		return s, good
	}
	return d.scalar(n, path)
}

func (d *Document) scalar(n *yaml.Node, path string) (any, bool) {
	switch n.Tag {
	case "!!null":
		return nil, true
	case "!!bool":
		b, err := strconv.ParseBool(n.Value)
		if err == nil {
			return b, true
		}
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), true
		}
		f, err := strconv.ParseFloat(n.Value, 64)
		if err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, true
		}
	case "!!str", "!!timestamp":
		return n.Value, true
	}
	d.Fault(path, "%s is not a value that JSON knows", n.Tag)
	return nil, false
}
