//go:build crashpoint

package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// crashStep has mk kill itself, as `kill -9` would, before one of the records
// that it writes into its journal, or right behind it: MK_CRASH_AT is
// before:N or after:N, for the Nth record, counted from 1. MK_CRASH_LOG names
// a file that gets a line for each record that mk came to. MK_ROOT says where
// the journal is.
//
// A record is a line of a ChangeSet's journal, or a new operation.json, which
// is written at each boundary of two steps.
func crashStep(env func(string) string) func(op, path string) {
	when, number, _ := strings.Cut(env("MK_CRASH_AT"), ":")
	at, _ := strconv.ParseInt(number, 10, 64)
	log := env("MK_CRASH_LOG")
	var seen atomic.Int64
	return func(op, name string) {
		if !isRecord(op, name) {
			return
		}
		n := seen.Add(1)
		if log != "" {
			note(log, fmt.Sprintf("%d %s %s\n", n, op, name))
		}
		switch {
		case n != at:
		case when == "before":
			die()
		case when == "after":
			file := filepath.Join(env("MK_ROOT"), name)
			before, err := os.Stat(file)
			go dieBehind(file, before, err)
		}
	}
}

// dieBehind dies as soon as a file is another one than it was, or larger.
func dieBehind(file string, before os.FileInfo, err error) {
	for {
		now, nowErr := os.Stat(file)
		if nowErr == nil && (err != nil || !os.SameFile(before, now) || now.Size() != before.Size()) {
			die()
		}
		time.Sleep(20 * time.Microsecond)
	}
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

// die returns never.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
