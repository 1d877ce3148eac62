// Package serpent tests a certs plugin that is written in Python, with the
// suite that holds for programs in any language.
package serpent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "plugin")
	pack := exec.CommandContext(t.Context(), "bin/serpent", "--pack", "../../../sdk/proto/testdata/released.binpb", dir)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("pack the plugin: %v\n%s", err, out)
	}
	sdktest.Conformance(t, nil, filepath.Join(dir, "bin", "serpent"), nil)
}

// The example of the documentation is a plugin that answers.
func TestExampleOfTheDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/write-a-plugin.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```python\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page holds no example in Python")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "greeter")
	if err := os.WriteFile(program, []byte(example), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for name, from := range map[string]string{"mkplugin.py": "bin/mkplugin.py", "contracts.binpb": "../../../sdk/proto/testdata/released.binpb"} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := sdktest.Start(t, program)
	sdktest.Configure(t, p.Addons(), nil)
	d, err := p.Plugin().Describe(t.Context())
	if err != nil || d.Identity.String() != "addons/greeter" {
		t.Errorf("it is %+v: %v", d.Identity, err)
	}
	if err := p.Plugin().Health(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := p.Addons().List(t.Context()); !errors.Is(err, plugin.Unsupported) {
		t.Errorf("a question without a method: %v", err)
	}
}
