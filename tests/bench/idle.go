package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/timer"
)

// usage is what a process had and did in a time in which nobody asked for
// anything.
type usage struct {
	process
	memory, own int64
	ran         int64 // nanoseconds
	children    int64 // what its ended children did
	started     bool  // it started another process
}

// life measures what of mk is there while the node idles, then what asking it
// costs, and what others' joins do.
func (n *benchNode) life(ctx context.Context) ([]row, error) {
	rows, err := n.idle(ctx)
	if err != nil {
		return rows, err
	}
	for _, measure := range []func(context.Context) ([]row, error){n.asking, n.joining} {
		more, err := measure(ctx)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// idle waits until nobody has asked for two minutes, and looks for another.
func (n *benchNode) idle(ctx context.Context) ([]row, error) {
	quiet := time.Duration(n.b.times(120, 35)) * time.Second // longer than the agent takes until it rests
	n.b.say("idle: %s, then another", quiet)
	if err := pass(ctx, quiet); err != nil {
		return nil, err
	}
	all, err := n.idleFor(ctx, quiet)
	if err != nil {
		return nil, err
	}
	var own, others []usage
	for _, u := range all {
		switch {
		case strings.HasPrefix(u.name, "mk ") || strings.HasPrefix(u.name, "plugin "):
			own = append(own, u)
		case u.name == "flanneld" || u.name == "etcd":
			others = append(others, u)
		}
	}
	if len(own) == 0 {
		return nil, errors.New("no process of mk runs")
	}
	peer := described(others) + " run beside it"
	bytes, busy, forks := sums(own)
	percent := 100 * float64(busy) / float64(quiet)
	return []row{
		{what: "memory of mk's own processes, idle", ours: described(own), peer: peer, value: float64(bytes) / 1e6, unit: "MB", aim: 40},
		{what: "processor for them", ours: fmt.Sprintf("%.3g ms in %s", float64(busy)/1e6, quiet), peer: "-", value: percent, unit: "% of a core", aim: 0.1},
		{what: "processes that started others meanwhile", ours: fmt.Sprint(forks), peer: "-", value: float64(forks), unit: "", aim: 0, exact: true},
	}, nil
}

func sums(list []usage) (bytes, busy int64, forks int) {
	for _, u := range list {
		bytes += u.memory
		busy += u.ran
		if u.started {
			forks++
		}
	}
	return bytes, busy, forks
}

func described(list []usage) string {
	var parts []string
	for _, u := range list {
		text := fmt.Sprintf("%s %.3g MB", u.name, float64(u.memory)/1e6)
		if u.started {
			text += " (starts processes)"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// idleFor watches every process of the node for a while. One that comes or
// goes meanwhile was started by one that stays, which is noted there.
func (n *benchNode) idleFor(ctx context.Context, d time.Duration) ([]usage, error) {
	before, err := n.usages()
	if err != nil {
		return nil, err
	}
	if err := pass(ctx, d); err != nil {
		return nil, err
	}
	after, err := n.usages()
	if err != nil {
		return nil, err
	}
	for i := range after {
		u := &after[i]
		at := slices.IndexFunc(before, func(b usage) bool { return b.pid == u.pid })
		if at < 0 {
			if p := slices.IndexFunc(after, func(p usage) bool { return p.pid == u.parent }); p >= 0 {
				after[p].started = true
			}
			continue
		}
		u.started = u.started || u.children != before[at].children
		u.ran -= before[at].ran
	}
	return after, nil
}

func (n *benchNode) usages() ([]usage, error) {
	list, err := n.processes()
	if err != nil {
		return nil, err
	}
	var out []usage
	for _, p := range list {
		u := usage{process: p}
		var errs [3]error
		u.memory, u.own, errs[0] = memory(p.pid)
		u.ran, errs[1] = ran(p.pid)
		u.children, errs[2] = startedOnce(p.pid)
		if errors.Join(errs[:]...) == nil { // else it has ended
			out = append(out, u)
		}
	}
	return out, nil
}

// pass lets time pass: what is measured is that nothing happens in it.
func pass(ctx context.Context, d time.Duration) error {
	timer.Wait(ctx, d)
	return ctx.Err()
}
