package pluginhost

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/sdk/plugin"
)

// However a plugin resists, its end takes at most killTimeout and leaves no
// process behind.
func TestEndsAreBounded(t *testing.T) {
	t.Parallel()
	deaf := build(t, "bare")
	tests := map[string]func(*testing.T, *rig) *Plugin{
		"is stopped": func(t *testing.T, r *rig) *Plugin {
			p := r.start(r.spec())
			if err := syscall.Kill(p.runner.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
			return p
		},
		"leaves a grandchild": func(t *testing.T, r *rig) *Plugin {
			p := r.start(r.spec())
			must(t, p, "group-child "+r.base)
			eventually(t, 5*time.Second, "a grandchild", func() bool { return running(r.base) > 1 })
			return p
		},
		"leaves a grandchild of its own group that holds its pipes": func(t *testing.T, r *rig) *Plugin {
			p := r.start(r.spec())
			must(t, p, "child "+r.base)
			eventually(t, 5*time.Second, "a grandchild", func() bool { return running(r.base) > 1 })
			return p
		},
		"ended and left a grandchild of its own group": func(t *testing.T, r *rig) *Plugin {
			p := r.start(r.spec())
			must(t, p, "child "+r.base)
			_, err := do(t, p, "silent")
			if crash, ok := errors.AsType[*CrashError](p.Explain("prepare", err)); !ok || crash.Reason != "" {
				t.Error(err)
			}
			return p
		},
		"knows no Shutdown": func(_ *testing.T, r *rig) *Plugin { return r.start(r.program(deaf, "BARE=deaf")) },
		"is in the middle of a question": func(t *testing.T, r *rig) *Plugin {
			p := r.start(r.spec())
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				_, _ = do(t, p, "never")
			}()
			t.Cleanup(func() { <-asked })
			return p
		},
	}
	for name, start := range tests {
		for _, isolate := range []bool{true, false} {
			if !isolate {
				name += ", without a cell"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(o *Options) { o.Isolate = isolate })
				p := start(t, r)
				within(t, killTimeout, "Close", func() {
					if err := p.Close(); err != nil {
						t.Error(err)
					}
				})
				r.nothingLeft()
				if !isolate && strings.Contains(name, "grandchild of its own group") {
					killAll(r.base) // only a cell holds it
				}
				eventually(t, time.Second, "all gone", func() bool { return running(r.base) == 0 })
			})
		}
	}
}

// killAll ends what running counts.
func killAll(text string) {
	for _, pid := range pids(text) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestAQuestionIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.spec()
	s.Deadlines = map[string]time.Duration{"PrepareImport": 200 * time.Millisecond}
	p := r.start(s)
	within(t, 2*time.Second, "the question", func() {
		_, err := do(t, p, "never")
		if !errors.Is(err, plugin.Unavailable) {
			t.Error(err)
		}
		if text := p.Explain("prepare an import", err).Error(); !strings.HasPrefix(text, "addons/test 1.2.3: prepare an import: ") {
			t.Error(text)
		}
	})
	if _, err := p.Plugin().Describe(t.Context()); err != nil {
		t.Error("it does not answer the next question:", err)
	}
}

func TestACrashIsExplained(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.start(r.spec())
	must(t, p, "log what happened before")
	_, err := do(t, p, "crash")
	crash, ok := errors.AsType[*CrashError](p.Explain("prepare an import", err))
	if !ok {
		t.Fatal(err)
	}
	if got, want := crash.Error(), "plugin addons/test 1.2.3 stopped while it was asked to prepare an import: panic: boom in the background"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if lines := strings.Join(crash.Lines, "\n"); !strings.Contains(lines, "what happened before\npanic: boom") || !strings.Contains(lines, "goroutine ") {
		t.Error(lines)
	}
	if got := r.log.level("panic: boom"); got != "error" {
		t.Errorf("the panic was logged at %q", got)
	}
	// Nobody closes it: the host cleans up by itself.
	eventually(t, 3*time.Second, "cleaned up", func() bool {
		left, _ := os.ReadDir(r.options.RunDir)
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(left) == 0 && len(r.running) == 0
	})
}

func TestAPanicInAHandlerEndsTheQuestionOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.start(r.spec())
	if _, err := do(t, p, "panic"); !errors.Is(err, plugin.Internal) || !strings.Contains(err.Error(), "panicked") {
		t.Fatal(err)
	}
	must(t, p, "nothing")
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got := must(t, r.start(r.spec()), "big"); len(got) != 5<<20 {
		t.Errorf("%d bytes", len(got))
	}
	p := r.start(r.program(build(t, "bare"), "BARE=gibibyte"))
	_, err := p.Exporter().Export(t.Context(), plugin.Call{OperationID: "x"}, nil, nil)
	text := p.Explain("export its state", err).Error()
	if !strings.Contains(text, "addons/test 1.2.3: export its state: ") || !strings.Contains(text, "larger than max (1073741824 vs. 16777216)") {
		t.Error(text)
	}
	if err := p.Plugin().Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// kill -9 of the host: nothing of its plugins lives on, and the next host
// removes their folders.
func TestNothingOutlivesAKilledHost(t *testing.T) {
	t.Parallel()
	for _, isolate := range []string{"1", "0"} {
		t.Run("isolate="+isolate, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			self, _ := self(t)
			spec, err := json.Marshal(r.spec("MARK=" + r.base))
			if err != nil {
				t.Fatal(err)
			}
			child := ""
			if isolate == "1" { // without a cell a child that leaves the group lives on
				child = r.base
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = []string{roleVariable + "=host", "SPEC=" + string(spec), "RUN=" + r.options.RunDir, "ISOLATE=" + isolate, "CHILD=" + child}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
				t.Fatal(line, err)
			}
			if n := running(r.base); n < 2 {
				t.Fatalf("%d processes", n)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually(t, 2*time.Second, "all gone", func() bool { return running(r.base) == 0 })
			left, _ := filepath.Glob(r.options.RunDir + "/p*")
			if len(left) != 1 {
				t.Fatalf("the killed host left %v", left)
			}
			p := r.start(r.spec())
			if _, err := os.Stat(left[0]); !os.IsNotExist(err) {
				t.Error("it was not swept:", left[0])
			}
			if err := Sweep(r.options.RunDir); err != nil {
				t.Error(err)
			}
			must(t, p, "nothing") // the folder of a living host stays
		})
	}
}

func TestSweepLeavesAlone(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	if err := Sweep(filepath.Join(base, "none")); err != nil {
		t.Error(err)
	}
	mine, err := runFolder(base, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other", "p1-2", "pX-1-2", "p", "p1-2-3-4"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dead := filepath.Join(base, "p1-7-x") // pid 1 lives, but started at another time
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(base); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(base); len(left) != 6 {
		t.Error(left)
	}
}
