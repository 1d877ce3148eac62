package pluginsdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mk8s.io/mk/pluginsdir/manifest"
)

const exampleSchema = `{
 "type": "object", "required": ["address"], "additionalProperties": false,
 "$defs": {"secret": {"type": "string", "minLength": 8, "writeOnly": true}},
 "properties": {
  "address": {"type": "string", "pattern": "^https://"},
  "token": {"$ref": "#/$defs/secret"},
  "pin": {"type": "string", "pattern": "^[0-9]+$", "writeOnly": true},
  "users": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "password": {"allOf": [{"$ref": "#/$defs/secret"}]}}}},
  "loose": {"$ref": "#anchor"},
  "open": {}
 }}`

func withSettings(schema string) *manifest.Manifest {
	m := &manifest.Manifest{Settings: []byte(schema)}
	m.Identity.Identity.Kind, m.Identity.Identity.Name = "certs", "vault"
	return m
}

func TestCheckSettings(t *testing.T) {
	t.Parallel()
	m := withSettings(strings.Replace(exampleSchema, `"loose": {"$ref": "#anchor"},`, "", 1))
	good := "{\"address\": \"https:\\/\\/x\", \"token\": \"12345678\\r\\n\"}"
	if err := CheckSettings(m, []byte(good), "f"); err != nil {
		t.Errorf("good: %v", err)
	}
	for in, want := range map[string]string{
		"{\n\"address\": \"http://x\"}": "f:2: address: 'http://x' does not match pattern",
		"{}":                            "f:1: missing property 'address'",
		"{\"address\": \"https://x\",\n\"more\": 1}":                                 "additional properties 'more' not allowed",
		"{\"address\": \"https://x\",\n\"token\": \"short\"}":                        `f:2: token: does not fit "minLength" of the schema (a secret, not shown)`,
		"{\"address\": \"https://x\",\n\"pin\": \"geheim\"}":                         "f:2: pin: does not fit",
		"{\"address\": \"https://x\",\n\"users\": [{},\n{\"password\": \"short\"}]}": "f:3: users[1].password: does not fit",
		"{\"address\": \"https://x\",\n\"address\": \"https://y\"}":                  "f:2: address: is there twice",
		"address: https://x": "f:1: is not JSON",
		"[]":                 "f:1: must be a JSON object",
	} {
		err := CheckSettings(m, []byte(in), "f")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
			continue
		}
		if strings.Contains(err.Error(), "short") || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the message holds a secret: %v", in, err)
		}
	}
	if err := CheckSettings(withSettings(""), []byte(`{"a": 1}`), "f"); err == nil || !strings.Contains(err.Error(), "certs/vault has no settings") {
		t.Errorf("got %v", err)
	}
}

func TestRedactHidesWhatMayBeSecret(t *testing.T) {
	t.Parallel()
	in := `{"address":"https://x","token":"12345678","users":[{"name":"a","password":"12345678"}],"loose":"x","unknown":{"a":"b"},"open":5}`
	out, err := Redact(withSettings(exampleSchema), []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"address":"https://x","loose":"‹secret, 1 bytes›","open":5,"token":"‹secret, 8 bytes›",` +
		`"unknown":"‹secret, 9 bytes›","users":[{"name":"a","password":"‹secret, 8 bytes›"}]}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	// A schema that refers to itself ends.
	if _, err := Redact(withSettings(`{"$ref":"#","properties":{"a":{"$ref":"#"}}}`), []byte(`{"a":{"a":{}}}`)); err != nil {
		t.Error(err)
	}
}

func TestSettingsAreSavedForRootAlone(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	m := withSettings(`{"type":"object","properties":{"a":{"type":"string"}}}`)
	if data, err := d.LoadSettings(m); err != nil || string(data) != "{}" {
		t.Errorf("none: %s, %v", data, err)
	}
	if err := d.SaveSettings(m, []byte(`{"a":1}`)); err == nil {
		t.Error("wrong settings were saved")
	}
	if err := d.SaveSettings(m, []byte(`{"a":"b"}`)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(d.path, "settings/certs-vault.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode().Perm(), err)
	}
	if data, err := d.LoadSettings(m); err != nil || string(data) != `{"a":"b"}` {
		t.Errorf("got %s, %v", data, err)
	}
}

func FuzzCheckSettings(f *testing.F) {
	f.Add([]byte(exampleSchema), []byte(`{"address":"https://x"}`))
	f.Add([]byte(`{"$ref":"#"}`), []byte(`{"a":[1]}`))
	f.Fuzz(func(t *testing.T, schema, data []byte) {
		m := withSettings(string(schema))
		_ = CheckSettings(m, data, "f")
		_, _ = Redact(m, data)
	})
}

func FuzzReceipts(f *testing.F) {
	f.Add([]byte(`{"schema":1,"plugin":"a/b","events":[{"at":"2026-01-01T00:00:00Z","action":"install","state":"done","version":"1","digest":"x","by":"y"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = parseReceipts(data, "f") })
}
