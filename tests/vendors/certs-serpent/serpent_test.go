// Package serpent tests a certs plugin that is written in Python, with the
// suite that holds for programs in any language.
package serpent

import (
	"os/exec"
	"path/filepath"
	"testing"

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
