package sdktest

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"mk8s.io/mk/sdk/changeset"
)

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// Golden holds a ChangeSet against testdata/<name>.golden, and checks that it
// is valid. With -update the file is written. Secrets are written as
// placeholders.
func Golden(t testing.TB, name string, c changeset.ChangeSet) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Errorf("%s is not valid: %v", name, err)
	}
	b, err := json.MarshalIndent(c.Redacted(), "", "  ")
	if err != nil {
		t.Fatalf("writing %s: %v", name, err)
	}
	GoldenText(t, name, string(b)+"\n")
}

// GoldenText holds any text against testdata/<name>.golden.
func GoldenText(t testing.TB, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with: go test -run %s -update", err, t.Name())
	}
	if got != string(want) {
		t.Errorf("%s differs from %s; if that is meant, run: go test -run %s -update\ngot:\n%s", name, path, t.Name(), got)
	}
}
