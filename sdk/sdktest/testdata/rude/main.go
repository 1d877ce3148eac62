// Command rude is a plugin that does what plugins should not: it prints while
// it starts and while it answers, and it panics.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

var _ = say("rude: initialized")

func say(s string) int {
	n, _ := fmt.Println(s)
	m, _ := os.NewFile(1, "stdout").WriteString(s + " again\n")
	return n + m
}

var kept = os.Stdout

func main() {
	fmt.Println("rude: main")
	sdk.Serve(&rude{})
}

type rude struct{}

func (*rude) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{Identity: plugin.Identity{Kind: plugin.KindAddons, Name: "rude", Version: "0.1.0"},
		Contracts: []string{plugin.Contract(plugin.KindAddons)}}, nil
}

func (*rude) Configure(context.Context, plugin.Configuration) error { return nil }
func (*rude) Health(context.Context) error                          { return nil }
func (*rude) Forget(context.Context, plugin.Call) error             { return nil }
func (*rude) List(context.Context) ([]addons.Addon, error)          { panic("rude: no list") }

func (*rude) Plan(ctx context.Context, r addons.PlanRequest) (plugin.Answer, error) {
	switch r.Addon {
	case "print":
		for range 2000 {
			fmt.Fprintln(kept, "rude: a line that nobody asked for, long enough to fill a pipe with two thousand of them")
		}
		out, err := exec.CommandContext(ctx, "sh", "-c", "echo child; echo $MK_PLUGIN").CombinedOutput()
		return plugin.Answer{NotYet: &plugin.NotYet{WaitingFor: string(out)}}, err
	case "sleep":
		<-ctx.Done()
		return plugin.Answer{}, ctx.Err()
	}
	return plugin.Answer{}, fmt.Errorf("plain failure of %s", r.Addon)
}

func (*rude) Probe(context.Context, string) ([]changeset.ObjectReference, error) { return nil, nil }
