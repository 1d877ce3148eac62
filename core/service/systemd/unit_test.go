package systemd

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/service"
)

func TestRender(t *testing.T) {
	t.Parallel()
	update := os.Getenv("UPDATE_GOLDEN") != ""
	unit := (&Controller{opts: Options{ID: "b"}}).Unit
	for name, test := range map[string]struct {
		def     service.Definition
		version int
	}{
		"containerd": {version: 255, def: service.Definition{
			Name: "containerd", Description: "container\nruntime", Path: "/var/lib/mk/bin/containerd", Argv: []string{"/var/lib/mk/bin/containerd", "--config=/x y"},
			Env: []string{"PATH=/usr/bin"}, SecretEnv: []string{"HTTP_PROXY=http://u:hush@p"}, KillMode: service.KillProcess, Delegate: true, OOMScoreAdjust: -999, LimitNOFILE: 1048576,
		}},
		"etcd": {version: 252, def: service.Definition{
			Name: "etcd", Path: "/opt/50% off/kubelite", Argv: []string{"etcd", "$HOME", "%n", `"q" \`, "a\nb", ""},
			After: []string{"containerd"}, Dir: "/opt/50% off", StopSignal: syscall.SIGINT, StopTimeout: 90 * time.Second,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := render(test.def, unit, files{"/var/lib/mk/var/log/" + name + ".log", "/var/lib/mk/var/" + name + ".env"}, test.version)
			golden := filepath.Join("testdata", name+".service")
			if update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("unit:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	got := environment([]string{"A=1", "B=a \"b\" $c `d` \\e=f", "C="})
	if want := "A=\"1\"\nB=\"a \\\"b\\\" \\$c \\`d\\` \\\\e=f\"\nC=\"\"\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestUnitNames(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"": "mk-etcd.service", "b2": "mk-b2-etcd.service"} {
		c, err := New(Options{ID: id})
		if err != nil || c.Unit("etcd") != want {
			t.Errorf("%q: %s, %v", id, c.Unit("etcd"), err)
		}
	}
	if _, err := New(Options{ID: "../x"}); err == nil {
		t.Error("a path was taken for an id")
	}
}

// Whatever a definition holds stays on its line and in its word.
func FuzzQuote(f *testing.F) {
	f.Add("plain")
	f.Add("a\nExecStart=/bin/evil")
	f.Add(`\" ; %n`)
	f.Fuzz(func(t *testing.T, s string) {
		q := quote(specifiers(s))
		inner := strings.NewReplacer(`\\`, "", `\"`, "").Replace(q[1 : len(q)-1])
		if strings.ContainsAny(q, "\n\r") || strings.Contains(inner, `"`) {
			t.Fatalf("%q leaves its word: %s", s, q)
		}
	})
}

func FuzzParseDefinitions(f *testing.F) {
	f.Add([]byte(`{"schema":1,"services":[{"name":"etcd","path":"/x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if defs, err := parseDefinitions(b); err == nil {
			if err := service.ValidateAll(defs); err != nil {
				t.Fatal(err)
			}
		}
	})
}
