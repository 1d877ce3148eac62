// Package versions holds nothing but the test that keeps this module's dependencies those of the Kubernetes release.
package versions_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const kubernetes = "k8s.io/kubernetes"

type module struct {
	Path, Version, Dir string
	Replace            *module
}

// effective is the version that is compiled.
func (m module) effective() string {
	if m.Replace != nil {
		return m.Replace.Version
	}
	return m.Version
}

// TestDependenciesAreThoseOfTheRelease compares what is compiled here with what Kubernetes' own go.mod requires. Where it
// fails, something here requires a newer one: a change to be made for a reason, and written down in go.mod.
func TestDependenciesAreThoseOfTheRelease(t *testing.T) {
	t.Parallel()
	if _, err := os.ReadFile("../go.mod"); err != nil { // so that go test's cache sees it change
		t.Fatal(err)
	}
	ours := map[string]module{}
	for dec := json.NewDecoder(goCommand(t, "list", "-m", "-json", "all")); ; {
		var m module
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read the list of modules: %v", err)
		}
		ours[m.Path] = m
	}
	var release struct{ Require []module }
	gomod := filepath.Join(ours[kubernetes].Dir, "go.mod")
	if err := json.NewDecoder(goCommand(t, "mod", "edit", "-json", gomod)).Decode(&release); err != nil {
		t.Fatalf("read %s: %v", gomod, err)
	}
	if len(release.Require) < 100 {
		t.Fatalf("%s requires %d modules only", gomod, len(release.Require))
	}
	staging := "v0." + strings.TrimPrefix(ours[kubernetes].Version, "v1.")
	for _, want := range release.Require {
		if want.Version == "v0.0.0" {
			want.Version = staging
		}
		if got, ok := ours[want.Path]; ok && got.effective() != want.Version {
			t.Errorf("%s %s is compiled; Kubernetes is released with %s", want.Path, got.effective(), want.Version)
		}
	}
}

func goCommand(t *testing.T, args ...string) io.Reader {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return bytes.NewReader(out)
}
