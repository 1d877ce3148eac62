package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func none(string) string { return "" }

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	path := write(t, "# mine\nclock-wait: 5m\nsupervisor: embedded\ngroup: ops\n")
	env := map[string]string{"MK_SUPERVISOR": "systemd", "MK_GROUP": "lab"}
	s, err := Load(path, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Override("group", "flagged"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Value{
		"group":      {Value: "flagged", Origin: FromFlag},
		"supervisor": {Value: "systemd", Origin: FromEnv, Where: "MK_SUPERVISOR"},
		"clock-wait": {Value: "5m", Origin: FromFile, Where: path + ":2"},
		"key-type":   {Value: "ecdsa-p256", Origin: FromDefault},
	} {
		got, err := s.Get(name)
		if err != nil || got.Value != want.Value || got.Origin != want.Origin || got.Where != want.Where {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if d, err := s.Duration("cert-warn"); err != nil || d != 30*24*time.Hour {
		t.Errorf("cert-warn is %v, %v", d, err)
	}
	if len(s.All()) != len(Keys()) {
		t.Errorf("All has %d values", len(s.All()))
	}
}

func TestTheTable(t *testing.T) {
	t.Parallel()
	keys := Keys()
	if !slices.IsSortedFunc(keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
	for _, k := range keys {
		if err := k.Check(k.Default); err != nil || k.Doc == "" {
			t.Errorf("%s: default %q: %v", k.Name, k.Default, err)
		}
	}
}

func TestFaultsHaveFileAndLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\nsupervisr: auto\n":              `:2: unknown setting "supervisr"; the nearest is supervisor`,
		"x: 1\n":                           `:1: unknown setting "x"`,
		"group: a\ngroup: b\n":             ":2: group a second time",
		"accept-microk8s: yes\n":           `:1: accept-microk8s: "yes" is neither true nor false`,
		"key-type: rsa\n":                  `:1: key-type: "rsa" is none of ecdsa-p256, rsa-2048`,
		"clock-wait: soon\n":               `:1: clock-wait: "soon" is not a time`,
		"clock-wait: -2m\n":                "is not a time",
		"proxy.http: user:s3cret\n":        ":1: proxy.http: the value is not a URL",
		"group: [a]\n":                     ":1: group: expected one value",
		"group:\n":                         ":1: group: expected one value",
		"- a\n":                            ":1: expected lines of the form key: value",
		"group: a\n\t: b\n":                ":",
		"group: a\n---\ngroup: b\n":        "more than one document",
		"group: \"a\\u0007\"\n":            "control characters",
		"a: &x [1]\nb: [*x, *x, *x, *x]\n": ":1: unknown setting",
	} {
		path := write(t, text)
		_, err := Load(path, none)
		if err == nil || !strings.HasPrefix(err.Error(), path+":") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
	if _, err := Load(write(t, ""), func(k string) string { return map[string]string{"MK_SUPERVISOR": "me"}[k] }); err == nil || !strings.HasPrefix(err.Error(), "MK_SUPERVISOR: ") {
		t.Errorf("error %v", err)
	}
	if _, err := Load(t.TempDir(), none); err == nil {
		t.Error("a folder is read")
	}
}

func TestChangesKeepTheRest(t *testing.T) {
	t.Parallel()
	s, err := Load(write(t, "# head\n\ngroup: ops # who\n# kind\nkey-type: rsa-2048\n"), none)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []error{s.Set("group", "lab"), s.Set("accept-microk8s", "true"), s.Unset("clock-wait")} {
		if change != nil {
			t.Fatal(change)
		}
	}
	const want = "# head\n\ngroup: lab # who\n# kind\nkey-type: rsa-2048\naccept-microk8s: true\n"
	if got, err := s.Bytes(); err != nil || string(got) != want {
		t.Errorf("got\n%s\nwant\n%s(%v)", got, want, err)
	}
	if v, err := s.Get("group"); err != nil || v.Value != "lab" || v.Origin != FromFile {
		t.Errorf("group is %+v, %v", v, err)
	}
	for name, value := range map[string]string{"grup": "x", "key-type": "dsa", "group": "a\nb"} {
		if err := s.Set(name, value); err == nil {
			t.Errorf("%s=%q is taken", name, value)
		}
	}
	if err := s.Unset("group"); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("group"); err != nil || v.Origin != FromDefault {
		t.Errorf("group is %+v, %v", v, err)
	}
}

func TestAMissingFileIsEmptyAndGetsItsFirstKey(t *testing.T) {
	t.Parallel()
	s, err := Load(filepath.Join(t.TempDir(), "none"), none)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set("group", "true"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Bytes(); err != nil || string(got) != "group: \"true\"\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	s, err := Load(write(t, "proxy.http: http://u:p@proxy:3128\n"), none)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("proxy.http"); err != nil || v.Shown() != "***" || v.Value == "***" {
		t.Errorf("shown as %q, %v", v.Shown(), err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte("# a\ngroup: ops # b\nclock-wait: 2m\n"), "x")
	f.Add([]byte("{group: a, proxy.no: \"b\"}"), "- y: #")
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		s := &Settings{path: "f", env: map[string]Value{}, flags: map[string]Value{}}
		if len(data) > MaxFile || s.parse(data) != nil {
			return
		}
		if s.Set("proxy.no", value) != nil {
			return
		}
		text, err := s.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again := &Settings{path: "f", env: map[string]Value{}, flags: map[string]Value{}}
		if err := again.parse(text); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if v, err := again.Get("proxy.no"); err != nil || v.Value != value {
			t.Errorf("%q: got %q, want %q (%v)", text, v.Value, value, err)
		}
	})
}
