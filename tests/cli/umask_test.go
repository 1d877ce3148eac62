package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mk8s.io/mk/core/node"
)

// TestUmask: who starts mk from a shell that takes all rights from others still
// has plugins, which run as users of their own; and one that takes no right
// from anybody opens nothing to them.
func TestUmask(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // only root starts plugins
	}
	program, err := exec.LookPath("mk")
	if err != nil {
		t.Fatal(err)
	}
	shipped := filepath.Join(filepath.Dir(filepath.Dir(program)), "plugins/certs-local")
	for _, mask := range []string{"077", "000"} {
		t.Run(mask, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			root := filepath.Join(dir, "root")
			if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chmod(dir, 0o711)); err != nil { //nolint:gosec // test folders
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", "umask "+mask+"; exec mk --root="+root+" plugin install "+shipped+" --yes")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			r, err := node.Open(root, node.Options{})
			if err != nil {
				t.Fatal(err)
			}
			run := r.RunDir()
			t.Cleanup(func() { _ = os.RemoveAll(run) })
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			for _, folder := range []string{root, run} {
				err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
					if err != nil || d.Type()&os.ModeSymlink != 0 {
						return err
					}
					info, err := d.Info()
					if err == nil && info.Mode().Perm()&0o022 != 0 {
						t.Errorf("others may write %s (%v)", path, info.Mode())
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}
