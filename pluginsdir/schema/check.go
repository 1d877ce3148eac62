package schema

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is one way in which a value does not fit.
type Fault struct {
	Location []string // members and indices from the whole value to where it is wrong
	Keyword  string   // of the schema
	Text     string   // says what is wrong; it may hold a part of the value
}

// mostSteps bounds a check. Schemas of settings take a few hundred.
const mostSteps = 1 << 20

// Check says how a value, from Decode, does not fit; nothing where it does.
func (s *Schema) Check(v any) []Fault {
	c := &checker{left: mostSteps}
	c.check(s, v, nil)
	if c.left <= 0 {
		return []Fault{{Keyword: "$ref", Text: "cannot be checked: the schema asks for too much"}}
	}
	return c.faults
}

type checker struct {
	faults []Fault
	left   int
}

func (c *checker) fault(at []string, keyword, format string, a ...any) {
	c.faults = append(c.faults, Fault{Location: slices.Clone(at), Keyword: keyword, Text: fmt.Sprintf(format, a...)})
}

// fits tells whether a value fits, and keeps what is wrong to itself.
func (c *checker) fits(s *Schema, v any, at []string) bool {
	before := len(c.faults)
	c.check(s, v, at)
	fits := len(c.faults) == before
	c.faults = c.faults[:before]
	return fits
}

// check collects what is wrong with a value.
func (c *checker) check(s *Schema, v any, at []string) {
	if c.left--; c.left <= 0 || s == nil {
		return
	}
	if s.always != nil {
		if !*s.always {
			c.fault(at, "false", "is not allowed")
		}
		return
	}
	c.check(s.ref, v, at)
	if len(s.types) > 0 && !ofType(s.types, typeOf(v)) {
		c.fault(at, "type", "got %s, want %s", typeOf(v), strings.Join(s.types, " or "))
		return
	}
	if s.enum != nil && !slices.ContainsFunc(s.enum, func(e any) bool { return equal(e, v) }) {
		c.fault(at, "enum", "value must be one of %s", shown(s.enum...))
	}
	if s.isConst && !equal(s.value, v) {
		c.fault(at, "const", "value must be %s", shown(s.value))
	}
	switch v := v.(type) {
	case string:
		c.text(s, v, at)
	case []any:
		c.list(s, v, at)
	case map[string]any:
		c.object(s, v, at)
	default:
		c.number(s, v, at)
	}
	c.combined(s, v, at)
}

func ofType(types []string, t string) bool {
	return slices.Contains(types, t) || t == "integer" && slices.Contains(types, "number")
}

func (c *checker) combined(s *Schema, v any, at []string) {
	for _, a := range s.all {
		c.check(a, v, at)
	}
	if len(s.some) > 0 {
		before := len(c.faults)
		for _, a := range s.some {
			mark := len(c.faults)
			if c.check(a, v, at); len(c.faults) == mark {
				c.faults = c.faults[:before]
				break
			}
		}
	}
	if len(s.one) > 0 {
		before, fit := len(c.faults), 0
		for _, a := range s.one {
			mark := len(c.faults)
			if c.check(a, v, at); len(c.faults) == mark {
				fit++
			}
		}
		if fit > 0 {
			c.faults = c.faults[:before]
		}
		if fit > 1 {
			c.fault(at, "oneOf", "fits %d of what it must fit one of", fit)
		}
	}
	if s.not != nil && c.fits(s.not, v, at) {
		c.fault(at, "not", "is what it must not be")
	}
	switch {
	case s.when == nil:
	case c.fits(s.when, v, at):
		c.check(s.then, v, at)
	default:
		c.check(s.instead, v, at)
	}
}

func (c *checker) number(s *Schema, v any, at []string) {
	n, ok := number(v)
	if !ok {
		if typeOf(v) == "number" && (s.minimum != nil || s.maximum != nil || s.above != nil || s.below != nil || s.multipleOf != nil) {
			c.fault(at, "type", "has too many digits")
		}
		return
	}
	limit := func(keyword string, l *big.Rat, good func(int) bool) {
		if l != nil && !good(n.Cmp(l)) {
			c.fault(at, keyword, "%s: got %s, want %s", keyword, n.RatString(), l.RatString())
		}
	}
	limit("minimum", s.minimum, func(c int) bool { return c >= 0 })
	limit("maximum", s.maximum, func(c int) bool { return c <= 0 })
	limit("exclusiveMinimum", s.above, func(c int) bool { return c > 0 })
	limit("exclusiveMaximum", s.below, func(c int) bool { return c < 0 })
	if s.multipleOf != nil && !new(big.Rat).Quo(n, s.multipleOf).IsInt() {
		c.fault(at, "multipleOf", "multipleOf: got %s, want a multiple of %s", n.RatString(), s.multipleOf.RatString())
	}
}

func (c *checker) text(s *Schema, v string, at []string) {
	if s.minLength != nil || s.maxLength != nil {
		c.counted(at, "minLength", "maxLength", utf8.RuneCountInString(v), s.minLength, s.maxLength)
	}
	if s.pattern != nil && !s.pattern.MatchString(v) {
		c.fault(at, "pattern", "'%s' does not match pattern '%s'", v, s.pattern)
	}
}

func (c *checker) counted(at []string, least, most string, n int, minimum, maximum *int) {
	if minimum != nil && n < *minimum {
		c.fault(at, least, "%s: got %d, want %d", least, n, *minimum)
	}
	if maximum != nil && n > *maximum {
		c.fault(at, most, "%s: got %d, want %d", most, n, *maximum)
	}
}

func (c *checker) list(s *Schema, v []any, at []string) {
	c.counted(at, "minItems", "maxItems", len(v), s.minItems, s.maxItems)
	matching := 0
	for i, e := range v {
		in := append(slices.Clip(at), strconv.Itoa(i))
		if i < len(s.prefix) {
			c.check(s.prefix[i], e, in)
		} else {
			c.check(s.items, e, in)
		}
		if s.contains != nil && c.fits(s.contains, e, in) {
			matching++
		}
	}
	if s.contains != nil {
		least := s.minContains
		if least == nil {
			one := 1
			least = &one
		}
		c.counted(at, "minContains", "maxContains", matching, least, s.maxContains)
	}
	if !s.unique {
		return
	}
	for i := range v {
		for k := range i {
			if c.left--; c.left <= 0 {
				return
			}
			if equal(v[k], v[i]) {
				c.fault(at, "uniqueItems", "items at %d and %d are equal", k, i)
				return
			}
		}
	}
}

func (c *checker) object(s *Schema, v map[string]any, at []string) {
	c.counted(at, "minProperties", "maxProperties", len(v), s.minProperties, s.maxProperties)
	c.missing(at, "required", s.required, v)
	for _, name := range slices.Sorted(maps.Keys(s.dependent)) {
		if _, there := v[name]; there {
			c.missing(at, "dependentRequired", s.dependent[name], v)
		}
	}
	var extra []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		in := append(slices.Clip(at), name)
		if s.names != nil && !c.fits(s.names, name, in) {
			c.fault(at, "propertyNames", "the name %s is not allowed", shown(name))
		}
		own, known := s.properties[name]
		if known {
			c.check(own, v[name], in)
		}
		for _, p := range s.patterns {
			if p.name.MatchString(name) {
				known = true
				c.check(p.Schema, v[name], in)
			}
		}
		switch {
		case known || s.additional == nil:
		case s.additional.always != nil && !*s.additional.always:
			extra = append(extra, name)
		default:
			c.check(s.additional, v[name], in)
		}
		if d := s.dependents[name]; d != nil {
			c.check(d, v, at)
		}
	}
	if len(extra) > 0 {
		c.fault(at, "additionalProperties", "additional properties %s not allowed", shownNames(extra))
	}
}

func (c *checker) missing(at []string, keyword string, names []string, v map[string]any) {
	var missing []string
	for _, name := range names {
		if _, there := v[name]; !there {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
	case 1:
		c.fault(at, keyword, "missing property %s", shownNames(missing))
	default:
		c.fault(at, keyword, "missing properties %s", shownNames(missing))
	}
}

func shownNames(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "'" + n + "'"
	}
	return strings.Join(out, ", ")
}

// shown writes what a schema names.
func shown(values ...any) string {
	out := make([]string, len(values))
	for i, v := range values {
		if s, ok := v.(string); ok {
			out[i] = "'" + s + "'"
		} else {
			out[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(out, ", ")
}
