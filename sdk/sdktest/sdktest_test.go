package sdktest_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		case <-tick.C:
		}
	}
}

func TestAPluginAsAProcess(t *testing.T) {
	t.Parallel()
	program := sdktest.Build(t, "./testdata/example")
	p := sdktest.Start(t, program)
	a := p.Addons()
	sdktest.Configure(t, a, nil)
	d, err := p.Plugin().Describe(t.Context())
	if err != nil || d.Identity.String() != "addons/greeter" {
		t.Fatalf("%v %v", d.Identity, err)
	}
	answer, err := a.Plan(t.Context(), addons.PlanRequest{Call: sdktest.Call(), Node: sdktest.Node(), Addon: "greeting", Enable: true})
	if err != nil {
		t.Fatal(err)
	}
	sdktest.Golden(t, "greeting", answer.Changes)
	_, err = a.Plan(t.Context(), addons.PlanRequest{Call: sdktest.Call(), Addon: "none"})
	if !errors.Is(err, plugin.AddonUnknown) {
		t.Fatalf("the reason did not survive: %v", err)
	}
	if _, err := p.Exporter().PrepareImport(t.Context(), sdktest.Call()); !errors.Is(err, plugin.Unsupported) {
		t.Fatalf("an optional interface that is not there: %v", err)
	}
}

func TestPrintsDoNotDisturb(t *testing.T) {
	t.Parallel()
	p := sdktest.Start(t, sdktest.Build(t, "./testdata/rude"))
	answer, err := p.Addons().Plan(t.Context(), addons.PlanRequest{Addon: "print"})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.NotYet.WaitingFor; got != "child\n\n" {
		t.Errorf("a child sees %q, it should not see the cookie", got)
	}
	for _, want := range []string{"rude: initialized", "rude: main"} {
		eventually(t, want, func() bool { return strings.Contains(p.Log(), want) })
	}
}

func TestPanicEndsTheCallOnly(t *testing.T) {
	t.Parallel()
	p := sdktest.Start(t, sdktest.Build(t, "./testdata/rude"))
	_, err := p.Addons().List(t.Context())
	if !errors.Is(err, plugin.Internal) || client.Lost(err) || !strings.Contains(err.Error(), "List panicked") {
		t.Fatal(err)
	}
	id := err.Error()[strings.LastIndexByte(err.Error(), ' ')+1:]
	eventually(t, "the stack in the log", func() bool {
		return strings.Contains(p.Log(), id) && strings.Contains(p.Log(), "rude: no list")
	})
	if err := p.Plugin().Health(t.Context()); err != nil {
		t.Fatalf("the process did not survive: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	p := sdktest.Start(t, sdktest.Build(t, "./testdata/rude"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := p.Addons().Plan(ctx, addons.PlanRequest{Addon: "sleep"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	// The interceptor that the host adds refuses what nothing bounds.
	conn, err := grpc.NewClient("unix:/nonexistent", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(client.RequireDeadline))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := client.New(conn).Plugin().Health(t.Context()); !errors.Is(err, client.ErrNoDeadline) {
		t.Fatal(err)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	p := sdktest.Start(t, sdktest.Build(t, "./testdata/example"))
	if err := syscall.Kill(p.Pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := p.Plugin().Health(t.Context()); err != nil {
		t.Fatalf("SIGINT ended it: %v", err)
	}
	if err := syscall.Kill(p.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end after SIGTERM", p.Exited)
	if err := p.Plugin().Health(t.Context()); !client.Lost(err) {
		t.Fatalf("a gone process is not recognized: %v", err)
	}
}

func TestByHand(t *testing.T) {
	t.Parallel()
	program := sdktest.Build(t, "./testdata/example")
	out, err := exec.CommandContext(t.Context(), program).Output()
	if e := (*exec.ExitError)(nil); !errors.As(err, &e) || e.ExitCode() != 2 {
		t.Fatalf("exit: %v", err)
	}
	sdktest.GoldenText(t, "byhand", string(out))
	out, err = exec.CommandContext(t.Context(), program, "--manifest").Output()
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(out), "sha256:")
	sdktest.GoldenText(t, "manifest", head)
}

func TestInMemoryAnswersAlike(t *testing.T) {
	t.Parallel()
	c := sdktest.InMemory(t, fake{})
	if err := c.Plugin().Health(t.Context()); !errors.Is(err, plugin.Unavailable) || !strings.Contains(err.Error(), "tired") {
		t.Fatal(err)
	}
	err := c.Plugin().Forget(t.Context(), sdktest.Call())
	if e, ok := errors.AsType[*plugin.Error](err); !ok || e.Next != "mk reset" || !errors.Is(err, plugin.TokenUsed) {
		t.Fatalf("%#v", err)
	}
}

type fake struct{}

func (fake) Describe(context.Context) (plugin.Description, error)  { return plugin.Description{}, nil }
func (fake) Configure(context.Context, plugin.Configuration) error { return nil }
func (fake) Health(context.Context) error                          { return errors.New("tired") }
func (fake) Forget(context.Context, plugin.Call) error {
	return &plugin.Error{Reason: plugin.TokenUsed, Message: "used", Next: "mk reset"}
}

func TestTheExampleConforms(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, nil, sdktest.Build(t, "./testdata/example"), nil)
}
