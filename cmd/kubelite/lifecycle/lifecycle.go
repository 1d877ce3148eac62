// Package lifecycle runs the components of one process and stops them in order.
//
// It guarantees that the first component that ends by itself ends the group, with an error that names it; that a stop
// goes stage by stage, the lowest first, all of a stage at once; and that no stage is waited for longer than its grace.
// It does not restart anything, and it cannot end a goroutine that ignores its context: such a component is left behind
// for the process's exit.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrEnded is the cause when a component returned without an error although nobody had asked it to stop.
var ErrEnded = errors.New("ended by itself")

// Component is one long-running part of the process.
type Component struct {
	// Name stands in every error about the component.
	Name string
	// Run works until ctx ends. What it returns after that is only reported in the log of the stop.
	Run func(ctx context.Context) error
	// Stage orders the stop: a stage's contexts are cancelled when all lower stages have ended or used up their grace.
	Stage int
}

// Group is a set of components. The zero value runs nothing until its context ends.
type Group struct {
	Components []Component
	// Grace bounds the wait for one stage; a stage that is not listed is not waited for.
	Grace map[int]time.Duration
	// Log receives one line for each event of the stop; nil discards them.
	Log func(message string)
}

type ended struct {
	index int
	err   error
}

// Run starts all components at once and returns when the group has stopped: nil after ctx ended, else the error of the
// component that ended first.
func (g Group) Run(ctx context.Context) error {
	done := make(chan ended, len(g.Components))
	cancels := make([]context.CancelFunc, len(g.Components))
	running := make(map[int]bool, len(g.Components))
	for i, c := range g.Components {
		// The order of the stop is this group's, so the components must not see ctx itself end.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i], running[i] = cancel, true
		go func() { done <- ended{i, c.Run(own)} }()
	}

	var failure error
	select {
	case <-ctx.Done():
		g.log("stopping: asked to")
	case e := <-done:
		delete(running, e.index)
		if ctx.Err() != nil { // it saw the end of ctx, or its cause, first
			g.log("stopping: asked to")
			break
		}
		failure = g.failure(e)
		g.log("stopping: " + failure.Error())
	}
	g.stop(cancels, running, done)
	return failure
}

func (g Group) failure(e ended) error {
	cause := e.err
	if cause == nil {
		cause = ErrEnded
	}
	return fmt.Errorf("%s: %w", g.Components[e.index].Name, cause)
}

func (g Group) stop(cancels []context.CancelFunc, running map[int]bool, done <-chan ended) {
	for _, stage := range g.stages() {
		for i, c := range g.Components {
			if c.Stage == stage {
				cancels[i]()
			}
		}
		g.await(stage, running, done)
	}
}

func (g Group) await(stage int, running map[int]bool, done <-chan ended) {
	timer := time.NewTimer(g.Grace[stage])
	defer timer.Stop()
	for len(g.left(stage, running)) > 0 {
		select {
		case e := <-done:
			delete(running, e.index)
			message := g.Components[e.index].Name + ": stopped"
			if e.err != nil && !errors.Is(e.err, context.Canceled) {
				message += ": " + e.err.Error()
			}
			g.log(message)
		case <-timer.C:
			g.log("left behind after " + g.Grace[stage].String() + ": " + strings.Join(g.left(stage, running), ", "))
			return
		}
	}
}

func (g Group) left(stage int, running map[int]bool) []string {
	var names []string
	for i, c := range g.Components {
		if c.Stage == stage && running[i] {
			names = append(names, c.Name)
		}
	}
	return names
}

func (g Group) stages() []int {
	stages := make([]int, 0, len(g.Components))
	for _, c := range g.Components {
		stages = append(stages, c.Stage)
	}
	slices.Sort(stages)
	return slices.Compact(stages)
}

func (g Group) log(message string) {
	if g.Log != nil {
		g.Log(message)
	}
}
