// Command mk runs real Kubernetes on a node; every strategic decision is made
// by a plugin. One verb is one file: it parses, calls core, prints.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() { os.Exit(run(os.Args)) }

// run is main with an exit code. The first Ctrl-C ends at the next safe step;
// a second one ends the process, and the journal says where it was.
func run(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Every file gets its mode from mk. The services, and the plugins' users,
	// must not depend on who started the node from which shell.
	syscall.Umask(0o022)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	s := newSession(args, os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	go func() {
		interrupt(signals, os.Stderr, cancel, s.standing)
		os.Exit(exitInterrupted)
	}()
	s.collect = debug.SetGCPercent(collectSeldom)
	app := newApp(s)
	if before, typed, ok := toComplete(args); ok {
		s.complete(ctx, app, before, typed)
		return 0
	}
	words := arrange(app, args)
	s.global.output = outputOf(app, words, s.global.output)
	err := app.RunContext(ctx, words)
	return s.finish(ctx, err)
}

// collectSeldom is how much a command's heap may grow until its garbage is
// collected, in percent: it ends before that pays.
const collectSeldom = 400

// stays is for a process that lives on: it collects its garbage as usual.
func (s *session) stays() { debug.SetGCPercent(s.collect) }

// interrupt cancels at the first signal and returns at the second, having said
// what is left behind. Who pressed Ctrl-C is told what that does; a service
// manager is not.
func interrupt(signals <-chan os.Signal, w io.Writer, cancel func(), left func() string) {
	if <-signals == os.Interrupt {
		fmt.Fprintln(w, "stopping at the next safe step; again to stop now")
	}
	cancel()
	<-signals
	if text := left(); text != "" {
		fmt.Fprintln(w, text)
	}
}
