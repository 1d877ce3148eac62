// Package schema checks settings against the JSON schema of a plugin's
// manifest, JSON Schema 2020-12.
//
// Guaranteed: a schema refers to nothing but itself, and nothing is fetched or
// read; what it asks for that this package does not know how to check is
// refused when it is compiled, not passed over; a check ends soon whatever the
// schema says. Faults tell where and which keyword, so that whoever prints one
// decides whether the value may be shown. Not known are what schemas of
// settings do without: dynamic references, anchors, identifiers inside a
// schema, and keywords about what other keywords left unevaluated. A format is
// an annotation, as the standard has it.
//
// Everything is made when it is asked for: a program that checks nothing does
// nothing for it when it starts.
package schema

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// Dialect is the one that is known; a schema may leave $schema out.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// Schema is a compiled schema. It is safe for concurrent use.
type Schema struct {
	always *bool // a schema that is true or false
	ref    *Schema

	types   []string
	enum    []any
	isConst bool
	value   any // of const

	multipleOf, minimum, maximum, above, below *big.Rat

	minLength, maxLength *int
	pattern              *regexp.Regexp

	prefix                                       []*Schema
	items, contains                              *Schema
	minItems, maxItems, minContains, maxContains *int
	unique                                       bool

	properties                   map[string]*Schema
	patterns                     []patterned
	additional, names            *Schema
	required                     []string
	dependent                    map[string][]string
	dependents                   map[string]*Schema
	minProperties, maxProperties *int

	all, some, one      []*Schema
	not                 *Schema
	when, then, instead *Schema
}

// patterned is a schema for the members whose names match.
type patterned struct {
	name *regexp.Regexp
	*Schema
}

// Compile reads a schema. The error says where it is wrong.
func Compile(data []byte) (*Schema, error) {
	root, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("the schema %w", err)
	}
	c := &compiler{root: root, known: map[string]*Schema{}}
	s, err := c.at("#", root)
	if err != nil {
		return nil, err
	}
	if err := loops(slices.Collect(maps.Values(c.known))); err != nil {
		return nil, err
	}
	return s, nil
}

// loops finds schemas that ask about a value by asking about the same value.
func loops(all []*Schema) error {
	const open, done = 1, 2
	state := map[*Schema]int{}
	var visit func(s *Schema) bool
	visit = func(s *Schema) bool {
		if s == nil || state[s] == done {
			return true
		}
		if state[s] == open {
			return false
		}
		state[s] = open
		for _, next := range s.same() {
			if !visit(next) {
				return false
			}
		}
		state[s] = done
		return true
	}
	for _, s := range all {
		if !visit(s) {
			return fmt.Errorf("a $ref leads back to itself")
		}
	}
	return nil
}

// same are the schemas that a value is held to besides this one.
func (s *Schema) same() []*Schema {
	out := slices.Concat(s.all, s.some, s.one, []*Schema{s.ref, s.not, s.when, s.then, s.instead})
	return slices.AppendSeq(out, maps.Values(s.dependents))
}

// compiler knows the schemas of one document by their place.
type compiler struct {
	root  any
	known map[string]*Schema
}

// at compiles the schema at a place, once.
func (c *compiler) at(place string, v any) (*Schema, error) {
	if s, ok := c.known[place]; ok {
		return s, nil
	}
	s := &Schema{}
	c.known[place] = s
	switch v := v.(type) {
	case bool:
		s.always = &v
	case map[string]any:
		for _, keyword := range slices.Sorted(maps.Keys(v)) {
			k := word{c: c, place: place + "/" + escape(keyword), value: v[keyword]}
			if err := s.take(keyword, k); err != nil {
				return nil, placed(k.place, err)
			}
		}
	default:
		return nil, placed(place, errors.New("a schema is an object, true or false"))
	}
	return s, nil
}

// wrongError says where a schema is wrong, once: innermost.
type wrongError struct {
	place string
	err   error
}

func (e *wrongError) Error() string { return e.place + ": " + e.err.Error() }
func (e *wrongError) Unwrap() error { return e.err }

func placed(place string, err error) error {
	if e, ok := errors.AsType[*wrongError](err); ok {
		return e
	}
	return &wrongError{place, err}
}

// take compiles one keyword.
func (s *Schema) take(keyword string, k word) (err error) {
	switch keyword {
	case "$schema":
		if text, ok := k.value.(string); !ok || strings.TrimSuffix(text, "#") != Dialect {
			return fmt.Errorf("only %s is known", Dialect)
		}
	case "$id":
		if !strings.HasPrefix(k.place, "#/$id") {
			return errUnknown
		}
	case "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef", "$recursiveAnchor", "$vocabulary",
		"unevaluatedItems", "unevaluatedProperties", "additionalItems", "dependencies":
		return errUnknown
	case "$ref":
		s.ref, err = k.reference()
	case "$defs", "definitions":
		_, err = k.named()
	case "type":
		s.types, err = k.types()
	case "enum":
		list, ok := k.value.([]any)
		if s.enum = list; !ok {
			return fmt.Errorf("must be a list")
		}
	case "const":
		s.isConst, s.value = true, k.value
	case "allOf":
		s.all, err = k.list()
	case "anyOf":
		s.some, err = k.list()
	case "oneOf":
		s.one, err = k.list()
	case "not":
		s.not, err = k.schema()
	case "if":
		s.when, err = k.schema()
	case "then":
		s.then, err = k.schema()
	case "else":
		s.instead, err = k.schema()
	default:
		return s.takeLimit(keyword, k)
	}
	return err
}

// takeLimit compiles the keywords for numbers, text, lists and objects. What
// the standard does not have is an annotation.
func (s *Schema) takeLimit(keyword string, k word) (err error) {
	switch keyword {
	case "multipleOf":
		s.multipleOf, err = k.positive()
	case "minimum":
		s.minimum, err = k.number()
	case "maximum":
		s.maximum, err = k.number()
	case "exclusiveMinimum":
		s.above, err = k.number()
	case "exclusiveMaximum":
		s.below, err = k.number()
	case "minLength":
		s.minLength, err = k.count()
	case "maxLength":
		s.maxLength, err = k.count()
	case "pattern":
		s.pattern, err = k.regexp()
	case "prefixItems":
		s.prefix, err = k.list()
	case "items":
		s.items, err = k.schema()
	case "contains":
		s.contains, err = k.schema()
	case "minContains":
		s.minContains, err = k.count()
	case "maxContains":
		s.maxContains, err = k.count()
	case "minItems":
		s.minItems, err = k.count()
	case "maxItems":
		s.maxItems, err = k.count()
	case "uniqueItems":
		yes, ok := k.value.(bool)
		if s.unique = yes; !ok {
			return fmt.Errorf("must be true or false")
		}
	default:
		return s.takeMember(keyword, k)
	}
	return err
}

func (s *Schema) takeMember(keyword string, k word) (err error) {
	switch keyword {
	case "properties":
		s.properties, err = k.named()
	case "patternProperties":
		s.patterns, err = k.patterns()
	case "additionalProperties":
		s.additional, err = k.schema()
	case "propertyNames":
		s.names, err = k.schema()
	case "required":
		s.required, err = k.strings(k.value)
	case "dependentRequired":
		s.dependent, err = k.lists()
	case "dependentSchemas":
		s.dependents, err = k.named()
	case "minProperties":
		s.minProperties, err = k.count()
	case "maxProperties":
		s.maxProperties, err = k.count()
	}
	return err
}
