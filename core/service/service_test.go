package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mk8s.io/mk/core/service"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	def := func(name string, after ...string) service.Definition {
		return service.Definition{Name: name, After: after}
	}
	for name, test := range map[string]struct {
		defs []service.Definition
		want []string
		err  string
	}{
		"none":      {},
		"by name":   {defs: []service.Definition{def("b"), def("a")}, want: []string{"a", "b"}},
		"by after":  {defs: []service.Definition{def("a", "b"), def("b", "c"), def("c")}, want: []string{"c", "b", "a"}},
		"unknown":   {defs: []service.Definition{def("a", "x")}, want: []string{"a"}},
		"circle":    {defs: []service.Definition{def("a", "b"), def("b", "a"), def("c")}, err: "a, b"},
		"of itself": {defs: []service.Definition{def("a", "a")}, err: "circle"},
		"twice":     {defs: []service.Definition{def("a"), def("a")}, err: "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := service.Order(test.defs)
			if (err == nil) != (test.err == "") || err == nil && !slices.Equal(got, test.want) || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// What each waits for: one of what it comes after, there or only begun. And
// after an error nothing that waits is begun.
func TestInOrder(t *testing.T) {
	t.Parallel()
	store := service.Definition{Name: "store"}
	for name, patient := range map[string]bool{"patient": true, "not": false} {
		server := service.Definition{Name: "server", After: []string{"store", "unknown"}, Patient: patient}
		agent := service.Definition{Name: "agent", After: []string{"server"}}
		var mu sync.Mutex
		var said []string
		say := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, what)
		}
		serverBegun := make(chan struct{})
		err := service.InOrder(t.Context(), []service.Definition{agent, server, store}, func(_ context.Context, d service.Definition, begun func()) error {
			say(d.Name + " begun")
			switch {
			case d.Name == "server":
				close(serverBegun)
			case d.Name == "store" && patient: // it becomes ready behind the other's begin
				begun()
				<-serverBegun
				say("store there")
				return nil
			}
			begun()
			say(d.Name + " there")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		at := func(what string) int { return slices.Index(said, what) }
		if patient == (at("store there") < at("server begun")) || at("server there") > at("agent begun") {
			t.Errorf("%s: %q", name, said)
		}
		said = nil
		err = service.InOrder(t.Context(), []service.Definition{agent, server, store}, func(_ context.Context, d service.Definition, begun func()) error {
			say(d.Name)
			return errors.New("no")
		})
		if err == nil || err.Error() != "no" || len(said) != 1 {
			t.Errorf("%s: after an error: %v, %q", name, err, said)
		}
	}
}

// At the end of its time whoever is waited for says why, and not whoever waits.
func TestInOrderNamesWhatIsNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defs := []service.Definition{{Name: "agent", After: []string{"store"}}, {Name: "store"}}
		start := func(err error) error {
			return service.InOrder(ctx, defs, func(context.Context, service.Definition, func()) error {
				cancel()
				synctest.Wait() // the agent does not wait any more
				return err
			})
		}
		if err := start(errors.New("store is not ready")); err == nil || err.Error() != "store is not ready" {
			t.Errorf("got %v", err)
		}
		if err := start(nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSelect(t *testing.T) {
	t.Parallel()
	defs := []service.Definition{{Name: "kubelite", After: []string{"etcd"}}, {Name: "etcd"}}
	for _, test := range []struct{ ask, want []string }{
		{nil, []string{"etcd", "kubelite"}},
		{[]string{"proxy", "scheduler"}, []string{"kubelite"}},
		{[]string{"kubelite", "etcd"}, []string{"etcd", "kubelite"}},
	} {
		got, err := service.Select(defs, test.ask)
		var names []string
		for _, d := range got {
			names = append(names, d.Name)
		}
		if err != nil || !slices.Equal(names, test.want) {
			t.Errorf("%v: %v, %v", test.ask, names, err)
		}
	}
	if _, err := service.Select(defs, []string{"x"}); !errors.Is(err, service.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := service.Definition{Name: "etcd", Path: "/bin/x", Env: []string{"A=b=c"}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*service.Definition){
		"name":     func(d *service.Definition) { d.Name = "a/b" },
		"program":  func(d *service.Definition) { d.Path = "x\n/y" },
		"folder":   func(d *service.Definition) { d.Dir = "x" },
		"socket":   func(d *service.Definition) { d.Ready.Unix = "x" },
		"argument": func(d *service.Definition) { d.Argv = []string{"a\x00"} },
		"variable": func(d *service.Definition) { d.Env = []string{"A B=c"} },
		"secret":   func(d *service.Definition) { d.SecretEnv = []string{"A=b\nC=d"} },
		"timeout":  func(d *service.Definition) { d.StopTimeout = -time.Second },
		"signal":   func(d *service.Definition) { d.StopSignal = 65 },
		"mode":     func(d *service.Definition) { d.KillMode = "all" },
		"OOM":      func(d *service.Definition) { d.OOMScoreAdjust = 1001 },
	} {
		d := good
		spoil(&d)
		if err := d.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What is written down comes back the same.
func TestDefinitionSurvivesJSON(t *testing.T) {
	t.Parallel()
	d := service.Definition{Name: "etcd", Path: "/x", Argv: []string{"a"}, After: []string{"b"}, StopTimeout: time.Minute}.WithDefaults()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back service.Definition
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, d) {
		t.Fatalf("%+v, %v", back, err)
	}
}
