package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

// buildAndRun builds mk once, into a folder bin: mk finds its other programs
// beside itself. The scripts find it on their PATH.
func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mk-cli-")
	if err == nil {
		defer os.RemoveAll(dir)                                                   //nolint:errcheck // a temporary folder
		err = errors.Join(os.Chmod(dir, 0o711), build(filepath.Join(dir, "bin"))) //nolint:gosec // other users run it, too
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(bin string) error {
	out, err := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(bin, "mk"), "mk8s.io/mk/cmd/mk").CombinedOutput() //nolint:noctx // bounded by the test's own limit
	if err != nil {
		return fmt.Errorf("build mk: %w\n%s", err, out)
	}
	if err := buildPlugins(filepath.Join(filepath.Dir(bin), "plugins")); err != nil {
		return err
	}
	return os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// buildPlugins builds those that ship with mk, as the Makefile does: a dry run
// of a start reads their manifests.
func buildPlugins(to string) error {
	folders, err := filepath.Glob("../../plugins/*-*")
	if err != nil {
		return err
	}
	for _, f := range folders {
		name := filepath.Base(f)
		_, short, _ := strings.Cut(name, "-")
		program := filepath.Join(to, name, "bin", short)
		out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X main.version=0.1.0", "-o", program, "mk8s.io/mk/plugins/"+name).CombinedOutput() //nolint:noctx,gosec // bounded by the test's own limit
		if err != nil {
			return fmt.Errorf("build the plugin %s: %w\n%s", name, err, out)
		}
		manifest, err := exec.Command(program, "--manifest").Output() //nolint:noctx,gosec // bounded by the test's own limit
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name, "plugin.yaml"), manifest, 0o644) //nolint:gosec // other users read it, too
		}
		if err != nil {
			return fmt.Errorf("write the manifest of %s: %w", name, err)
		}
	}
	return nil
}

func TestScripts(t *testing.T) {
	t.Parallel()
	path := os.Getenv("PATH")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", path)
			e.Setenv("ROOT", filepath.Join(e.WorkDir, "root"))
			// Plugins run as users of their own: they must be able to pass through.
			return errors.Join(os.Chmod(filepath.Dir(e.WorkDir), 0o711), os.Chmod(e.WorkDir, 0o711)) //nolint:gosec // test folders
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "document": document},
	})
}

// exits runs a program and wants an exit code: exits CODE PROGRAM [WORD...].
// What it printed is kept for stdout and stderr, and in files of these names.
func exits(ts *testscript.TestScript, neg bool, words []string) {
	if neg || len(words) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [WORD...]")
	}
	want, err := strconv.Atoi(words[0])
	ts.Check(err)
	err = ts.Exec(words[1], words[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// document wants standard output to be exactly one JSON document, and the
// value of a field of it where one is named: document [FIELD VALUE].
func document(ts *testscript.TestScript, neg bool, words []string) {
	if neg || len(words) != 0 && len(words) != 2 {
		ts.Fatalf("usage: document [FIELD VALUE]")
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile("stdout"))))
	var doc any
	if err := dec.Decode(&doc); err != nil {
		ts.Fatalf("standard output is no document: %v", err)
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		ts.Fatalf("standard output holds more than one document")
	}
	if len(words) == 0 {
		return
	}
	m, _ := doc.(map[string]any)
	if inner, ok := m["error"].(map[string]any); ok {
		m = inner
	}
	if got := fmt.Sprint(m[words[0]]); got != words[1] {
		ts.Fatalf("%s is %q, want %q", words[0], got, words[1])
	}
}
