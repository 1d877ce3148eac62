package strict

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Name   string          `json:"name"`
	Count  int             `json:"count"`
	On     bool            `json:"on"`
	List   []inner         `json:"list"`
	Map    map[string]int  `json:"map"`
	When   time.Time       `json:"when"`
	Schema json.RawMessage `json:"schema"`
	Maybe  *string         `json:"maybe"`
	inner2
}

type inner struct {
	A string `json:"a"`
}

type inner2 struct {
	B string `json:"b"`
}

func TestDecodeReadsEveryType(t *testing.T) {
	t.Parallel()
	d, err := Read([]byte(`
name: x
count: 3
on: true
list: [{a: one}, {a: two}]
map: {k: 4}
when: 2026-01-02T03:04:05Z
schema: {type: object, n: 1.50, t: 2026-01-01, none: null}
maybe: y
b: embedded
`), "f.yaml", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	d.Decode(&s)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	if s.Name != "x" || s.Count != 3 || !s.On || len(s.List) != 2 || s.List[1].A != "two" || s.Map["k"] != 4 || *s.Maybe != "y" || s.B != "embedded" {
		t.Errorf("got %+v", s)
	}
	if string(s.Schema) != `{"n":1.50,"none":null,"t":"2026-01-01","type":"object"}` {
		t.Errorf("schema = %s", s.Schema)
	}
	if d.Line("list[1].a") != 5 || d.Line("list[7].zz") != 5 {
		t.Errorf("lines: %d %d", d.Line("list[1].a"), d.Line("list[7].zz"))
	}
}

func TestFaultsNameFileAndLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"unknown field":  {"name: x\nNames: y", "f:2: Names: unknown field: did you mean \"name\"?"},
		"twice":          {"name: x\ncount: 1\nname: y", "f:3: name: is there twice"},
		"number as text": {"name: 1.2", `f:1: name: must be text: write "1.2" in quotes`},
		"text as number": {"count: many", "f:1: count: must be a whole number"},
		"overflow":       {"count: 99999999999999999999", "f:1: count: must be a whole number"},
		"text as bool":   {"on: 'true'", "f:1: on: must be true or false"},
		"no list":        {"list: x", "f:1: list: must be a list"},
		"no map":         {"list:\n- x", "f:2: list[0]: must be a set of fields"},
		"time":           {"when: yesterday", "f:1: when: must be a time"},
		"alias":          {"name: &a x\nb: *a", "f:1: name: anchors and aliases are not allowed"},
		"merge":          {"<<: {name: x}", "a field's name must be a plain word"},
		"two documents":  {"name: x\n---\nname: y", "f:2: holds a second document"},
		"empty":          {"", "f:1: is empty"},
		"comment only":   {"# hello\n", "f:1: is empty"},
		"not UTF-8":      {"name: x\nb: \xff", "f:2: is not UTF-8"},
		"escape":         {`name: "\e[31m"`, "f:1: name: holds the control character U+001B"},
		"bidi":           {"name: \"\u202e\"", "f:1: name: holds the control character U+202E"},
		"syntax":         {"name: x\n b: : :", "f:2: "},
		"deep":           {strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested too deeply"},
		"binary":         {"schema: !!binary aGk=", "!!binary is not a value that JSON knows"},
		"infinite":       {"schema: .inf", "is not a value that JSON knows"},
		"too large":      {strings.Repeat("#", 1001), "f: larger than 1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Read([]byte(c.in), "f", 1000)
			if err == nil {
				d.Decode(&sample{})
				err = d.Err()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnceInTheOrderOfLines(t *testing.T) {
	t.Parallel()
	d, err := Read([]byte("count: x\nzz: 1\non: 3\n"), "f", 100)
	if err != nil {
		t.Fatal(err)
	}
	d.Decode(&sample{})
	d.Fault("zz", "later")
	want := "f:1: count: must be a whole number\nf:2: zz: unknown field\nf:2: zz: later\nf:3: on: must be true or false"
	if got := d.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSONIsReadToo(t *testing.T) {
	t.Parallel()
	d, err := Read([]byte("{\n\t\"name\": \"a\\u00e4\\/\\ud83d\\ude00\\\\/\",\n\t\"count\": 3\n}"), "f", 100)
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	d.Decode(&s)
	if err := d.Err(); err != nil || s.Name != "aä/😀\\/" || s.Count != 3 || d.Line("count") != 3 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("name: x\ncount: 1\nlist: [{a: b}]\nschema: {x: [1, 2.5, ~]}"))
	f.Add([]byte("{\"map\": {\"a\": 1}}"))
	f.Add([]byte("&a [*a]"))
	f.Add([]byte("a: !!float x\n? b\n: c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Read(data, "f", 1<<16)
		if err != nil {
			return
		}
		var s sample
		d.Decode(&s)
		_ = d.Err()
	})
}
