// Command mk runs real Kubernetes on a node; every strategic decision is made
// by a plugin. One verb is one file: it parses, calls core, prints.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args)) }

// run is main with an exit code. The first Ctrl-C ends at the next safe step;
// a second one ends the process, and the journal says where it was.
func run(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	s := newSession(args, os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	app := newApp(s)
	err := app.RunContext(ctx, arrange(app, args))
	return s.finish(ctx, err)
}
