package pluginsdir

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"mk8s.io/mk/pluginsdir/schema"
)

// secrets finds what a settings schema marks as writeOnly. It errs towards
// secret: a mark in any branch that might apply counts, and what no branch
// names is secret as well.
type secrets struct{ root any }

// maxRefs bounds how many references are followed from one place.
const maxRefs = 32

func newSecrets(text []byte) *secrets {
	if len(text) == 0 {
		return &secrets{}
	}
	root, err := schema.Decode(text)
	if err != nil {
		return &secrets{}
	}
	return &secrets{root: root}
}

// expand adds to the schemas of a place those that apply to the same place.
func (s *secrets) expand(schemas []any) []map[string]any {
	var out []map[string]any
	refs := 0
	var add func(v any, depth int)
	add = func(v any, depth int) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if depth > maxRefs || refs > 1000 {
			out = append(out, secret())
			return
		}
		refs++
		out = append(out, m)
		for _, k := range []string{"$ref", "$dynamicRef", "$recursiveRef"} {
			ref, ok := m[k].(string)
			if !ok {
				continue
			}
			to := s.resolve(ref)
			if to == nil {
				to = secret()
			}
			add(to, depth+1)
		}
		for _, k := range []string{"allOf", "anyOf", "oneOf"} {
			list, _ := m[k].([]any)
			for _, e := range list {
				add(e, depth+1)
			}
		}
		for _, k := range []string{"if", "then", "else"} {
			add(m[k], depth+1)
		}
		dependent, _ := m["dependentSchemas"].(map[string]any)
		for _, e := range dependent {
			add(e, depth+1)
		}
	}
	for _, v := range schemas {
		add(v, 0)
	}
	return out
}

// secret is the schema of what we cannot judge.
func secret() map[string]any { return map[string]any{"writeOnly": true} }

// resolve follows references like #/$defs/name.
func (s *secrets) resolve(ref string) any {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil
	}
	v := s.root
	for element := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if element == "" {
			continue
		}
		element = strings.NewReplacer("~1", "/", "~0", "~").Replace(element)
		switch t := v.(type) {
		case map[string]any:
			v = t[element]
		case []any:
			i, err := strconv.Atoi(element)
			if err != nil || i < 0 || i >= len(t) {
				return nil
			}
			v = t[i]
		default:
			return nil
		}
	}
	return v
}

// child are the schemas of a member or element.
func child(schemas []map[string]any, value any, key string) []any {
	var out []any
	_, list := value.([]any)
	for _, m := range schemas {
		if list {
			prefix, _ := m["prefixItems"].([]any)
			if i, err := strconv.Atoi(key); err == nil && i < len(prefix) {
				out = append(out, prefix[i])
			}
			out = append(out, m["items"], m["contains"])
			continue
		}
		properties, _ := m["properties"].(map[string]any)
		out = append(out, properties[key])
		patterns, _ := m["patternProperties"].(map[string]any)
		for _, p := range patterns { // whether the pattern fits does not matter: towards secret
			out = append(out, p)
		}
		out = append(out, m["additionalProperties"], m["unevaluatedProperties"])
	}
	return out
}

func marked(schemas []map[string]any) bool {
	if len(schemas) == 0 {
		return true
	}
	for _, m := range schemas {
		if w, _ := m["writeOnly"].(bool); w {
			return true
		}
	}
	return false
}

func (s *secrets) redact(value any) any {
	return s.redactAt(value, s.expand([]any{s.root}))
}

func (s *secrets) redactAt(value any, schemas []map[string]any) any {
	if marked(schemas) {
		return hidden(value)
	}
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = s.redactAt(e, s.expand(child(schemas, v, k)))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = s.redactAt(e, s.expand(child(schemas, v, strconv.Itoa(i))))
		}
		return out
	}
	return value
}

func hidden(value any) any {
	if m, ok := value.(map[string]any); ok && len(m) == 0 {
		return m
	}
	size := 0
	switch v := value.(type) {
	case string:
		size = len(v)
	default:
		data, err := json.Marshal(v)
		if err == nil {
			size = len(data)
		}
	}
	return fmt.Sprintf("‹secret, %d bytes›", size)
}

// holds says whether a place is a secret, lies in one or holds one.
func (s *secrets) holds(value any, location []string) bool {
	schemas := s.expand([]any{s.root})
	for _, key := range location {
		if marked(schemas) {
			return true
		}
		next := s.expand(child(schemas, value, key))
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return true
			}
			value = v[i]
		default:
			return true
		}
		schemas = next
	}
	return marked(schemas)
}
