//go:build crashpoint

package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// crashStep has mk kill itself, as `kill -9` would, before one of the records
// that it writes into its journal, or right behind it: MK_CRASH_AT is
// before:N or after:N, for the Nth record, counted from 1. With stop:N it stops
// before that record, as with SIGSTOP, and goes on when it is told to.
// MK_CRASH_LOG names a file that gets a line for each record that mk came to.
//
// An agent runs already, and has an environment of its own: it is told by
// files beside the node's folder. <root>.crash holds what MK_CRASH_AT would,
// or anything else to have records noted only; it counts from when it is
// there, and is gone before the agent is. The lines come into <root>.crash.log.
//
// A record is a line of a ChangeSet's journal, or a new operation.json, which
// is written at each boundary of two steps.
func crashStep(env func(string) string, root string) func(op, path string) {
	c := &crash{root: root, at: env("MK_CRASH_AT"), log: env("MK_CRASH_LOG")}
	c.own = c.at != "" || c.log != ""
	return c.step
}

// clock is the time by which mk goes: <root>.clock, beside the node's folder,
// holds by how much it is ahead of the machine's, as in 1h or -90s.
func clock(root string) func() time.Time {
	return func() time.Time {
		ahead := time.Duration(0)
		if data, err := os.ReadFile(root + ".clock"); err == nil && len(data) > 0 { // it is being written
			ahead, err = time.ParseDuration(string(data))
			if err != nil {
				panic(err)
			}
		}
		return time.Now().Add(ahead)
	}
}

// crash counts the records of one process.
type crash struct {
	root    string
	own     bool // said by the environment, not by a file
	mu      sync.Mutex
	at, log string
	told    time.Time // of the file that counts
	seen    int
	behind  bool // the record that it dies behind was begun
}

func (c *crash) step(op, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.behind { // it was written: this is the next thing
		c.die()
	}
	if !isRecord(op, name) {
		return
	}
	if !c.own && !c.look() {
		return
	}
	c.seen++
	if c.log != "" {
		note(c.log, fmt.Sprintf("%d %s %s\n", c.seen, op, name))
	}
	switch c.at {
	case fmt.Sprintf("before:%d", c.seen):
		c.die()
	case fmt.Sprintf("stop:%d", c.seen):
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case fmt.Sprintf("after:%d", c.seen):
		c.behind = true
		file := filepath.Join(c.root, name)
		before, err := os.Stat(file)
		go c.dieBehind(file, before, err)
	}
}

// look reads what the agent is told, and reports whether it is told anything.
func (c *crash) look() bool {
	file := c.root + ".crash"
	info, err := os.Stat(file)
	if err != nil {
		return false
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	if !info.ModTime().Equal(c.told) {
		c.told, c.seen = info.ModTime(), 0
	}
	c.at, c.log = string(data), file+".log"
	return true
}

// dieBehind dies as soon as a file is another one than it was, or larger.
func (c *crash) dieBehind(file string, before os.FileInfo, err error) {
	for {
		now, nowErr := os.Stat(file)
		if nowErr == nil && (err != nil || !os.SameFile(before, now) || now.Size() != before.Size()) {
			c.die()
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// die returns never.
func (c *crash) die() {
	if !c.own {
		_ = os.Remove(c.root + ".crash")
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func isRecord(op, name string) bool {
	return strings.HasPrefix(op, "record ") ||
		op == "rename" && path.Base(name) == "operation.json" && strings.HasPrefix(name, "var/journal/")
}

func note(file, line string) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	if _, err := f.WriteString(line); err != nil {
		panic(err)
	}
	if err := f.Close(); err != nil {
		panic(err)
	}
}
