//go:build crashpoint

package main

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// crashStep has mk kill itself, as `kill -9` would, before one of the records
// that it writes into its journal, or right behind it: MK_CRASH_AT is
// before:N or after:N, for the Nth record, counted from 1. MK_CRASH_LOG names
// a file that gets a line for each record that mk came to.
//
// A record is a line of a ChangeSet's journal, or a new operation.json, which
// is written at each boundary of two steps.
func crashStep(env func(string) string) func(op, path string) {
	when, number, _ := strings.Cut(env("MK_CRASH_AT"), ":")
	at, _ := strconv.ParseInt(number, 10, 64)
	log := env("MK_CRASH_LOG")
	var seen atomic.Int64
	return func(op, name string) {
		if when == "after" && at > 0 && seen.Load() == at {
			die()
		}
		if !isRecord(op, name) {
			return
		}
		n := seen.Add(1)
		if log != "" {
			note(log, fmt.Sprintf("%d %s %s\n", n, op, name))
		}
		if when == "before" && n == at {
			die()
		}
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
