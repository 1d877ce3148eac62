package operation

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

	dryStart(t, started)

	four := "4"
	args := ArgumentOptions{Service: "kubelet", Option: "v", Value: &four}
	for name, c := range map[string]struct {
		plan func(n *Node) (*Plan, error)
		real func(n *Node) error
		says string
	}{
		"refresh-certs": {
			func(n *Node) (*Plan, error) { return n.DryRenew(t.Context(), RenewOptions{}) },
			func(n *Node) error { _, err := n.Renew(t.Context(), RenewOptions{}); return err },
			"certificate server",
		},
		"plugin use": {
			func(n *Node) (*Plan, error) { return n.DryUse(t.Context(), "clustering", "other", "", "") },
			func(n *Node) error { _, err := n.UsePlugin(t.Context(), "clustering", "other", "", ""); return err },
			"activate plugin clustering/other",
		},
		"args": {
			func(n *Node) (*Plan, error) { return n.DryArgument(t.Context(), args) },
			func(n *Node) error { _, err := n.SetArgument(t.Context(), args); return err },
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
			was := files(t, c2.Root)
			if err := c.real(n); err != nil {
				t.Fatal(err)
			}
			holds(t, name, plan, was, files(t, c2.Root))
			rec, err := LoadRecord(n.Root, 2)
			if err != nil || rec.State != Done {
				t.Errorf("%+v %v", rec, err)
			}
			checkCertificates(t, c2)
		})
	}
}

// dryStart has a node that does not exist shown, then made, then shown again.
func dryStart(t *testing.T, started child) {
	t.Helper()
	dry := started
	dry.Command = "dry start"
	// Before the first start: not even the folder is made.
	dry.Count = filepath.Join(t.TempDir(), "plan")
	dry.run(t)
	if _, err := os.Lstat(started.Root); !os.IsNotExist(err) {
		t.Fatalf("a dry run made the node's folder: %v", err)
	}
	started.run(t)
	var shown Plan
	data, err := os.ReadFile(dry.Count)
	if err == nil {
		err = json.Unmarshal(data, &shown)
	}
	if err != nil {
		t.Fatal(err)
	}
	holds(t, "start", &shown, map[string]string{}, files(t, started.Root))
	installOther(t, started)
	before := contents(t, started.Root)
	dry.run(t)
	compareShapes(t, dry.Command, before, contents(t, started.Root))
	resets(t, started)

}

// files is what is in the files of a node, by path, those of certs as people
// name them. What mk notes of its own work is left out.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	current, err := os.Readlink(filepath.Join(dir, "certs"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if in, ok := strings.CutPrefix(rel, current+"/"); ok {
			rel = "certs/" + in
		}
		for _, own := range []string{"var/journal/", "var/lock/apply", "var/lock/operation", "var/certs/"} {
			if strings.HasPrefix(rel, own) {
				return nil
			}
		}
		if rel == "certs" || strings.HasPrefix(d.Name(), ".mk-old-") {
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			out[rel], err = os.Readlink(p)
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		out[rel] = info.Mode().String() + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// holds compares what a dry run showed with what the real one did: nothing was
// changed that was not named, and all that was named was.
func holds(t *testing.T, what string, plan *Plan, before, after map[string]string) {
	t.Helper()
	changed := map[string]bool{}
	for name, v := range after {
		if was, ok := before[name]; !ok || was != v {
			changed[name] = true
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			changed[name] = true
		}
	}
	named := map[string]bool{}
	for _, l := range plan.Changes {
		hit := len(l.Paths) == 0
		for _, glob := range l.Paths {
			for name := range changed {
				if change.Match(glob, name) {
					named[name], hit = true, true
				}
			}
			exact := !strings.ContainsAny(glob, "*") && !strings.HasPrefix(l.Verb, "make ") && l.Verb != "ask"
			if exact && l.Effect != "" && l.Effect != "nothing" && !changed[glob] {
				t.Errorf("%s: %s %s %s is shown, %s did not change", what, l.Verb, l.Target, l.Effect, glob)
			}
		}
		if folder := l.Verb == "make folder"; !hit && !folder && l.Effect != "" {
			t.Errorf("%s: %s %s is shown, nothing of %v changed", what, l.Verb, l.Target, l.Paths)
		}
	}
	for name := range changed {
		if !named[name] {
			t.Errorf("%s: %s changed and was not shown", what, name)
		}
	}
}

// resets compares the plan of a reset with what is there, and with what is left.
func resets(t *testing.T, from child) {
	t.Helper()
	c := child{Root: folder(t, from.Root), Mk: from.Mk, Command: "reset"}
	n, err := c.open(c.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // nothing was started
	before := contents(t, c.Root)
	plan, err := n.PlanReset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compareShapes(t, "dry reset", before, contents(t, c.Root))
	for name := range files(t, c.Root) {
		if !slices.ContainsFunc(plan.Changes, func(l change.Line) bool {
			return slices.ContainsFunc(l.Paths, func(glob string) bool { return change.Match(glob, name) })
		}) {
			t.Errorf("reset: %s is not shown", name)
		}
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
