package pluginhost

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestStartsAndAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.start(r.spec())
	d, err := p.Plugin().Describe(t.Context())
	if err != nil || d.Identity.Name != "test" {
		t.Fatal(d, err)
	}
	if err := p.Plugin().Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	<-p.Gone()
	r.nothingLeft()
	if _, err := p.Plugin().Describe(t.Context()); err == nil {
		t.Fatal("answered after its end")
	}
}

// What no plugin should print or be, and what its user reads.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	bare := sync.OnceValue(func() string { return build(t, "bare") })
	tests := []struct {
		name string
		spec func(*rig) Spec
		want []string
	}{
		{"prints before the handshake", func(r *rig) Spec { return r.script("echo Hello World; echo '1|1|unix|/x|grpc|'; sleep 60") },
			[]string{"addons/test 1.2.3", `printed "Hello World" instead of the handshake`}},
		{"another core protocol", func(r *rig) Spec { return r.script("echo '2|1|unix|/x|grpc|'; sleep 60") }, []string{"another envelope than 1"}},
		{"another envelope", func(r *rig) Spec { return r.script("echo '1|9|unix|/x|grpc|'; sleep 60") }, []string{"another envelope than 1", "9"}},
		{"a pipe", func(r *rig) Spec {
			return r.script("mkfifo $TMPDIR/s; echo \"1|1|unix|$TMPDIR/s|grpc|\"; sleep 60")
		}, []string{"which is not a socket"}},
		{"net/rpc", func(r *rig) Spec { return r.program(bare(), "BARE=netrpc") }, []string{`unsupported plugin protocol "netrpc"`}},
		{"tcp", func(r *rig) Spec { return r.script("echo '1|1|tcp|127.0.0.1:22|grpc|'; sleep 60") }, []string{`reached at tcp "127.0.0.1:22"`, "not at a socket in its folder"}},
		{"another socket", func(r *rig) Spec { return r.script("echo '1|1|unix|/run/containerd/containerd.sock|grpc|'; sleep 60") },
			[]string{"containerd.sock", "not at a socket in its folder"}},
		{"a path with dots", func(r *rig) Spec { return r.script("echo \"1|1|unix|$TMPDIR/../host|grpc|\"; sleep 60") }, []string{"not at a socket in its folder"}},
		{"a link to another socket", func(r *rig) Spec {
			return r.script("ln -s /run/x.sock $TMPDIR/s; echo \"1|1|unix|$TMPDIR/s|grpc|\"; sleep 60")
		}, []string{"which is not a socket"}},
		{"ends", func(r *rig) Spec { return r.spec("AT_START=exit") }, []string{"ended before the handshake", "I do not like it here"}},
		{"panics", func(r *rig) Spec { return r.spec("AT_START=panic") }, []string{"ended before the handshake", "panic: boom before serving"}},
		{"crashes in describe", func(r *rig) Spec { return r.spec("DESCRIBE=crash") }, []string{"describe", "panic: boom in describe"}},
		{"another contract", func(r *rig) Spec { return r.spec("DESCRIBE=contract") }, []string{"it speaks mk.addons.v2, this mk speaks mk.addons.v1"}},
		{"no contract", func(r *rig) Spec { return r.spec("DESCRIBE=none") }, []string{"it speaks no contract, this mk speaks mk.addons.v1"}},
		{"another version", func(r *rig) Spec { return r.spec("DESCRIBE=version") }, []string{"6.6.6", "its manifest lies"}},
		{"refuses its settings", func(r *rig) Spec { return r.spec("CONFIGURE=refuse") }, []string{"configure: no such setting"}},
		{"no program", func(r *rig) Spec { s := r.spec(); s.Program += "x"; return s }, []string{"open its program"}},
		{"a folder", func(r *rig) Spec { s := r.spec(); s.Program = r.base; return s }, []string{"is not a file"}},
		{"no interpreter", func(r *rig) Spec {
			s := r.script("")
			if err := os.WriteFile(s.Program, []byte("#!/no/such/program\n"), 0o755); err != nil {
				t.Error(err)
			}
			s.Digest = digestOf(t, s.Program)
			return s
		}, []string{"program or interpreter is not there"}},
		{"no program format", func(r *rig) Spec {
			s := r.script("")
			if err := os.WriteFile(s.Program, []byte("MZ nonsense"), 0o755); err != nil {
				t.Error(err)
			}
			s.Digest = digestOf(t, s.Program)
			return s
		}, []string{"cannot be run on this machine"}},
		{"root as its user", func(r *rig) Spec { s := r.spec(); s.UID = 0; return s }, []string{"no user of its own"}},
		{"hangs", func(r *rig) Spec { s := r.spec("AT_START=hang"); s.StartTimeout = 300 * time.Millisecond; return s }, []string{"did not finish the handshake in time"}},
		{"hangs after the handshake", func(r *rig) Spec {
			s := r.program(bare(), "BARE=mute")
			s.StartTimeout = 500 * time.Millisecond
			return s
		}, []string{"did not finish the handshake in time"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s := tt.spec(r)
			begun := time.Now()
			err := r.refused(s)
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if left := running(r.base); left > 0 {
				t.Errorf("%d processes are left", left)
			}
		})
	}
}

func TestTheStartTimeoutIsBounded(t *testing.T) {
	t.Parallel()
	for wish, want := range map[time.Duration]time.Duration{0: startTimeout, -1: startTimeout, time.Second: time.Second, time.Hour: time.Minute} {
		if got := startLimit(wish); got != want {
			t.Errorf("%s: %s", wish, got)
		}
	}
}

func TestDeadlinesAreAtMostTheHosts(t *testing.T) {
	t.Parallel()
	s := &Spec{Deadlines: map[string]time.Duration{"Describe": time.Second, "Health": time.Hour}}
	for method, want := range map[string]time.Duration{"/mk.plugin.v1.PluginService/Describe": time.Second,
		"/mk.plugin.v1.PluginService/Health": 5 * time.Second, "/mk.plugin.v1.PluginService/Export": 30 * time.Second} {
		if got := s.deadline(method); got != want {
			t.Errorf("%s: %s", method, got)
		}
	}
}

func TestAStartIsCalledOff(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]time.Duration{"at once": 0, "before the fork": time.Millisecond, "in the handshake": 400 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s := r.spec("AT_START=hang")
			ctx, cancel := context.WithTimeout(t.Context(), when)
			defer cancel()
			within(t, when+3*time.Second, "the end of the start", func() {
				if _, err := r.Start(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
			r.nothingLeft()
			if left := running(r.base); left > 0 {
				t.Errorf("%d processes are left", left)
			}
		})
	}
}

// A start that is called off before its fork does not fork.
func TestCalledOffBeforeTheFork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.spec()
	p := &Plugin{Spec: s, log: newLogger(r.options.Log)}
	for _, isolate := range []bool{true, false} {
		r.options.Isolate = isolate
		run := r.newRunner(p, nil, s.Env)
		run.end()
		if err := run.Start(t.Context()); !errors.Is(err, errEnded) || run.ID() != "" {
			t.Error(err, run.ID())
		}
	}
}

func TestAFolderTooLongForSockets(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.RunDir += strings.Repeat("/longer", 12) })
	if err := r.refused(r.spec()); !strings.Contains(err.Error(), "too long for sockets: a path may have 107 characters") {
		t.Fatal(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.spec()
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			p, err := r.Start(t.Context(), s)
			if err == nil {
				_, err = p.Plugin().Describe(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	within(t, killTimeout, "the end of all", func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	r.nothingLeft()
	if _, err := r.Start(t.Context(), s); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	r.nothingLeft()
}
