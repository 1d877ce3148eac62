package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// oracle is the library that most of the Go world checks schemas with. Only
// tests use it: it compiles all drafts of the standard at every start of a
// program that has it.
func oracle(text []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mk:///s.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("mk:///s.json")
}

// schemas are compared with the oracle, each over all values.
func schemas() []string {
	return []string{
		`true`, `false`, `{}`, `{"title":"x","x-ours":{"type":"nothing"},"format":"email","default":3}`,
		`{"type":"string"}`, `{"type":["integer","null"]}`, `{"type":"number"}`, `{"type":"array"}`, `{"type":"object"}`, `{"type":"boolean"}`,
		`{"enum":[1,"a",null,[1,2],{"a":1.0}]}`, `{"const":{"a":[1,{"b":null}]}}`, `{"const":null}`, `{"enum":[]}`,
		`{"minimum":1,"maximum":2.5}`, `{"exclusiveMinimum":1,"exclusiveMaximum":3}`, `{"multipleOf":0.5}`, `{"multipleOf":1e-2}`,
		`{"minLength":2,"maxLength":3}`, `{"pattern":"^a+$"}`, `{"minLength":1.0}`,
		`{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":false}`, `{"items":{"type":"integer"}}`,
		`{"contains":{"type":"integer"}}`, `{"contains":{"minimum":2},"minContains":2,"maxContains":2}`, `{"contains":true,"minContains":0}`,
		`{"minContains":3}`, `{"minItems":1,"maxItems":2}`, `{"uniqueItems":true}`,
		`{"properties":{"a":{"type":"integer"},"b":false}}`, `{"required":["a","b"]}`,
		`{"properties":{"a":true},"patternProperties":{"^x":{"type":"integer"}},"additionalProperties":false}`,
		`{"additionalProperties":{"type":"string"}}`, `{"propertyNames":{"maxLength":1}}`, `{"minProperties":1,"maxProperties":2}`,
		`{"dependentRequired":{"a":["b","c"]}}`, `{"dependentSchemas":{"a":{"required":["b"]}}}`,
		`{"allOf":[{"type":"integer"},{"minimum":2}]}`, `{"anyOf":[{"type":"string"},{"minimum":2}]}`, `{"oneOf":[{"type":"integer"},{"minimum":2}]}`,
		`{"not":{"type":"string"}}`, `{"if":{"type":"string"},"then":{"minLength":2},"else":{"type":"integer"}}`, `{"if":{"type":"string"}}`, `{"then":false}`,
		`{"$ref":"#/$defs/a","$defs":{"a":{"type":"integer"}}}`, `{"$ref":"#/$defs/a~1b%25","$defs":{"a/b%":{"type":"integer"}}}`, `{"allOf":[{"not":{"type":"string"}}],"properties":{"a":{"$ref":"#/allOf/0"}}}`,
		`{"properties":{"a":{"$ref":"#"}},"additionalProperties":false}`, `{"$ref":"#/definitions/n","definitions":{"n":{"items":{"$ref":"#/definitions/n"},"type":["array","integer"]}}}`,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://example.org/s","$comment":"x","type":"integer"}`,
		`{"$ref":"#/$defs/a","minimum":2,"$defs":{"a":{"type":"integer"}}}`,
		`{"properties":{"a":{"anyOf":[{"const":1},{"properties":{"b":{"type":"integer"}},"required":["b"]}]}}}`,
	}
}

func values() []string {
	return []string{
		`null`, `true`, `false`, `0`, `1`, `1.0`, `2`, `2.5`, `3`, `-1`, `0.015`, `1e2`, `100`, `12345678901234567890123`,
		`""`, `"a"`, `"aa"`, `"aaaa"`, `"äö"`, `"b"`, `[]`, `[1]`, `[1,2]`, `[1.0,1]`, `[1,"x"]`, `[1,"x",3]`, `[[1],[1.0]]`, `[2,3,4]`, `[[[1]]]`, `[{"a":1},{"a":1}]`,
		`{}`, `{"a":1}`, `{"a":1.0}`, `{"a":"x"}`, `{"a":1,"b":2}`, `{"b":2}`, `{"a":1,"b":2,"c":3}`, `{"x1":1}`, `{"x1":"s"}`, `{"long":1}`,
		`{"a":{"a":{"a":{}}}}`, `{"a":{"c":1}}`, `{"a":[1,{"b":null}]}`, `{"a":{"b":1}}`, `{"a":{"b":"x"}}`,
	}
}

func TestAsTheOracle(t *testing.T) {
	t.Parallel()
	for _, text := range schemas() {
		s, err := Compile([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		o, err := oracle([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, in := range values() {
			compare(t, text, in, s, o)
		}
	}
}

// compare wants the same verdict, and, of faults in members, the same places.
func compare(t *testing.T, text, in string, s *Schema, o *jsonschema.Schema) {
	t.Helper()
	v, err := Decode([]byte(in))
	if err != nil {
		t.Fatal(in, err)
	}
	theirs, err := jsonschema.UnmarshalJSON(strings.NewReader(in))
	if err != nil {
		t.Fatal(in, err)
	}
	faults, want := s.Check(v), o.Validate(theirs)
	if (len(faults) == 0) != (want == nil) {
		t.Errorf("%s over %s: %v, want %v", text, in, faults, want)
	}
}

func TestWhatIsNoSchema(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{`: "is not JSON", `{} {}`: "more than one", `3`: "#: a schema is", `{"type":"text"}`: `#/type: there is no type "text"`, `{"type":[]}`: "must be a type",
		`{"properties":{"a/b":{"type":7}}}`: "#/properties/a~1b/type", `{"properties":[]}`: "must be an object", `{"allOf":[]}`: "list of schemas",
		`{"items":[{}]}`: "#/items: a schema is", `{"required":["a","a"]}`: "twice", `{"required":"a"}`: "list of names", `{"minLength":-1}`: "whole number", `{"minLength":"1"}`: "whole number",
		`{"minimum":"1"}`: "must be a number", `{"minimum":1e999999999}`: "few hundred digits", `{"multipleOf":0}`: "more than 0", `{"pattern":"("}`: "missing closing",
		`{"patternProperties":{"[":true}}`: "missing closing", `{"uniqueItems":1}`: "true or false", `{"enum":1}`: "must be a list",
		`{"$ref":"https://example.org"}`: "only refer to itself", `{"$ref":"#/a"}`: `there is no "#/a"`, `{"$ref":"#a"}`: "does not know", `{"$ref":"#/enum","enum":[]}`: "#/enum: a schema is",
		`{"$ref":"#"}`: "back to itself", `{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"not":{"$ref":"#"}}}}`: "back to itself",
		`{"unevaluatedProperties":false}`: "does not know", `{"$dynamicRef":"#"}`: "does not know", `{"properties":{"a":{"$id":"x"}}}`: "does not know",
		`{"$schema":"http://json-schema.org/draft-07/schema#"}`: "only https://json-schema.org/draft/2020-12/schema", `{"dependentRequired":{"a":"b"}}`: "list of names",
	} {
		if _, err := Compile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestFaultsSayWhere(t *testing.T) {
	t.Parallel()
	s, err := Compile([]byte(`{"properties":{"users":{"items":{"properties":{"age":{"type":"integer","minimum":3}},"additionalProperties":false}}},"required":["name"]}`))
	if err != nil {
		t.Fatal(err)
	}
	v, err := Decode([]byte(`{"users":[{},{"age":1},{"age":"x","more":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(s.Check(v))
	for _, want := range []string{"{[] required missing property 'name'}", "{[users 1 age] minimum minimum: got 1, want 3}",
		"{[users 2 age] type got string, want integer}", "{[users 2] additionalProperties additional properties 'more' not allowed}"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}

// A schema can ask for more than anyone can check: 2 to the power of 40 steps.
func TestACheckEnds(t *testing.T) {
	t.Parallel()
	defs := map[string]any{"n0": map[string]any{"type": "string"}}
	for i := range 40 {
		ref := map[string]string{"$ref": fmt.Sprintf("#/$defs/n%d", i)}
		defs[fmt.Sprintf("n%d", i+1)] = map[string]any{"anyOf": []any{ref, ref}}
	}
	text, err := json.Marshal(map[string]any{"$defs": defs, "$ref": "#/$defs/n40"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Check(json.Number("1")); len(f) != 1 || !strings.Contains(f[0].Text, "asks for too much") {
		t.Errorf("%d faults", len(f))
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range schemas() {
		f.Add([]byte(s), []byte(`{"a":[1,"x",null]}`))
	}
	f.Fuzz(func(t *testing.T, text, in []byte) {
		v, err := Decode(in)
		if err != nil {
			return
		}
		s, err := Compile(text)
		if err != nil {
			return
		}
		faults := s.Check(v)
		o, err := oracle(text)
		if err != nil || len(text) > 200 || len(in) > 200 {
			return
		}
		theirs, err := jsonschema.UnmarshalJSON(bytes.NewReader(in))
		if err != nil {
			return
		}
		if want := o.Validate(theirs); (len(faults) == 0) != (want == nil) {
			t.Fatalf("%s over %s: %v, want %v", text, in, faults, want)
		}
	})
}
