package operation

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mk8s.io/mk/core/change"
)

// contents is everything below a folder, to the last byte.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out[p] = info.Mode().String() + info.ModTime().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(p)
			out[p] += string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDryRunsChangeNothing compares the whole tree before and after every dry
// run, and then has the real run do what was shown.
func TestDryRunsChangeNothing(t *testing.T) {
	t.Parallel()
	mk := shippedPlugins(t)
	started := newNode(t, mk)
	// Plugins' users must be able to pass through: a start looks at that.
	for _, d := range []string{filepath.Dir(started.Root), filepath.Dir(filepath.Dir(started.Root))} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // nothing is in there
			t.Fatal(err)
		}
	}

	// Before the first start: not even the folder is made.
	dry := started
	dry.Command = "dry start"
	dry.run(t)
	if _, err := os.Lstat(started.Root); !os.IsNotExist(err) {
		t.Fatalf("a dry run made the node's folder: %v", err)
	}
	started.run(t)
	installOther(t, started)
	before := contents(t, started.Root)
	dry.run(t)
	compareShapes(t, dry.Command, before, contents(t, started.Root))

	four := "4"
	args := ArgumentOptions{Service: "kubelet", Option: "v", Value: &four}
	for name, c := range map[string]struct {
		plan func(n *Node) (*Plan, error)
		real func(n *Node) error
		says string
	}{
		"refresh-certs": {
			func(n *Node) (*Plan, error) { return n.DryRenew(RenewOptions{}) },
			func(n *Node) error { _, err := n.Renew(t.Context(), RenewOptions{}); return err },
			"certificate server",
		},
		"plugin use": {
			func(n *Node) (*Plan, error) { return n.DryUse("clustering", "other", "", "") },
			func(n *Node) error { _, err := n.UsePlugin(t.Context(), "clustering", "other", "", ""); return err },
			"activate plugin clustering/other",
		},
		"args": {
			func(n *Node) (*Plan, error) { return n.DryArgument(args) },
			func(n *Node) error { return n.SetArgument(t.Context(), args) },
			"set argument kubelet/v create",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c2 := child{Root: folder(t, started.Root), Mk: mk, Command: name}
			n, err := c2.open(c2.options(nil))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.Close() })
			before := contents(t, c2.Root)
			plan, err := c.plan(n)
			if err != nil {
				t.Fatal(err)
			}
			compareShapes(t, name, before, contents(t, c2.Root))
			if !shows(plan.Changes, c.says) {
				t.Errorf("%q is not shown: %+v", c.says, plan.Changes)
			}
			if err := c.real(n); err != nil {
				t.Fatal(err)
			}
			rec, err := LoadRecord(n.Root, 2)
			if err != nil || rec.State != Done {
				t.Errorf("%+v %v", rec, err)
			}
			checkCertificates(t, c2)
		})
	}
}

func shows(lines []change.Line, says string) bool {
	for _, l := range lines {
		if strings.HasPrefix(l.Verb+" "+l.Target+" "+l.Effect, says) {
			return true
		}
	}
	return false
}
