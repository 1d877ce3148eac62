package house

import (
	"fmt"
	"go/ast"
	"path"
	"strings"
	"testing"
)

// call is "os.WriteFile" for a call of that function, or empty.
func call(n ast.Node) string {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + sel.Sel.Name
}

// each calls do for every call in every file.
func each(t *testing.T, do func(s *source, at, function string)) {
	t.Helper()
	all, files := sources(t)
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if f := call(n); f != "" {
				do(s, fmt.Sprintf("%s:%d", s.path, all.fset.Position(n.Pos()).Line), f)
			}
			return true
		})
	}
}

func TestNoInit(t *testing.T) {
	t.Parallel()
	_, files := sources(t)
	for _, s := range files {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has a function init: make the value where it is used, or in main, and hand it on", s.path)
			}
		}
	}
}

// A test that is skipped is a promise that nobody keeps.
func TestNoSkips(t *testing.T) {
	t.Parallel()
	each(t, func(s *source, at, function string) {
		receiver, method, _ := strings.Cut(function, ".")
		if s.test() && len(receiver) <= 2 && (method == "Skip" || method == "Skipf" || method == "SkipNow") {
			t.Errorf("%s skips a test: bring what it needs along (make deps), or fail and say what is missing", at)
		}
	})
}

func TestNoSleepInTests(t *testing.T) {
	t.Parallel()
	sleeps := except(map[string]string{
		"tests/systemd/machine.go": "Kill polls for the end of a process that is no child of the test",
	})
	each(t, func(s *source, at, function string) {
		if s.test() && function == "time.Sleep" && !sleeps.allow(s.path) {
			t.Errorf("%s sleeps: wait for the condition with a deadline, use a channel, or testing/synctest", at)
		}
	})
	sleeps.unneeded(t)
}

// A file that is written in place can be seen half written.
func TestNoWriteFile(t *testing.T) {
	t.Parallel()
	writers := except(map[string]string{
		"core/operation/machine.go":         "settings of the kernel and of cgroups below /proc/sys and /sys/fs/cgroup: no files",
		"core/remains/kernel.go":            "settings of the kernel: no files",
		"core/service/supervisor/child.go":  "/proc/PID/oom_score_adj: no file",
		"core/service/servicetest/child.go": "the child process of the service tests",
		"sdk/sdktest/golden.go":             "golden files of an author's tests, written with -update",
		"cmd/parts/tools/local.go":          "the tools image, which runs inside test pods",
	})
	each(t, func(s *source, at, function string) {
		if function != "os.WriteFile" || s.test() || under(s.path, "core/node") {
			return
		}
		if !writers.allow(s.path) {
			t.Errorf("%s writes a file in place: use core/node's WriteFile (temporary name, sync, rename), or a ChangeSet", at)
		}
	})
	writers.unneeded(t)
}

// Whoever waits can be told to stop.
func TestContextsComeFromAbove(t *testing.T) {
	t.Parallel()
	fresh := except(map[string]string{
		"cmd/kubelite/main.go":                       "main",
		"cmd/kubelite/server.go":                     "serve is the main function of all of Kubernetes' programs",
		"cmd/mk/main.go":                             "main",
		"cmd/parts/flanneld/main.go":                 "main",
		"cmd/parts/ociimage/main.go":                 "main",
		"cmd/parts/tools/main.go":                    "main",
		"core/operation/crash_test.go":               "the process that is killed: a main",
		"core/pluginhost/roles_test.go":              "programs that the test binary is run as: each is a main",
		"sdk/serve.go":                               "Serve is all that a plugin's main calls",
		"tests/bench/main.go":                        "main",
		"tests/bench/bare/main.go":                   "main",
		"tests/cluster/standin/main.go":              "main",
		"tests/cluster/machine_test.go":              "cleaning up after the test's own context has ended",
		"core/lock/lock_test.go":                     "shows that a context without a deadline is refused",
		"core/netinfo/namespace_test.go":             "runs in a child process, which has no test's context",
		"core/service/supervisor/supervisor_test.go": "runs in a child process, which has no test's context",
		"core/service/supervisor/successor_test.go":  "cleaning up after the test's own context has ended",
		"core/kube/realapi_harness_test.go":          "starts servers that several tests share",
	})
	each(t, func(s *source, at, function string) {
		if function != "context.Background" && function != "context.TO"+"DO" {
			return
		}
		if !fresh.allow(s.path) {
			t.Errorf("%s makes a context of its own: take one from the caller (tests: t.Context()); to clean up after it has ended use context.WithoutCancel with a timeout", at)
		}
	})
	fresh.unneeded(t)
}

const (
	longestFile     = 500
	longestFunction = 80
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	t.Parallel()
	// Longer than they should be, today. Nothing may be added.
	long := except(map[string]string{
		"core/args/file_test.go/TestUpstreamDefects": "one table of the defects that people know",
		"sdk/conformance/tokens.go/tokens":           "one list of cases of the tokens suite",
	})
	all, files := sources(t)
	for _, s := range files {
		lines := strings.Count(string(s.text), "\n")
		if lines > longestFile && !long.allow(s.path) {
			t.Errorf("%s has %d lines, more than %d: two thoughts are two files", s.path, lines, longestFile)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := all.fset.Position(f.End()).Line - all.fset.Position(f.Pos()).Line + 1
			place := path.Join(s.path, f.Name.Name)
			if n > longestFunction && !long.allow(place) {
				t.Errorf("%s has %d lines, more than %d: give its parts names", place, n, longestFunction)
			}
		}
	}
	long.unneeded(t)
}
