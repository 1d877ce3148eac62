// Command tools is the one program in the image that the project's tests run as pods.
//
//	serve [-http ADDR] [-udp ADDR]      answer over HTTP and UDP until a signal comes
//	get [-timeout D] [-retry D] URL     print the body of an HTTP answer
//	probe [-for D] [-timeout D] URL     ask again and again, each time on a new connection; print how long anybody waited
//	send [-timeout D] ADDR TEXT         send a UDP packet and print the answer
//	lookup [-timeout D] NAME            print the name's addresses, sorted
//	reverse [-timeout D] IP             print the address's names, sorted
//	sleep DURATION                      wait, or end with status 0 at a signal
//	cat FILE... | ls DIR | write FILE TEXT | env | hostname | id
//	exit CODE
//
// It is static and needs nothing from its image: Go's own resolver reads /etc/resolv.conf. The status is 0, or 1
// with a line on standard error, or 2 for wrong arguments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// errUsage marks wrong arguments.
var errUsage = errors.New("wrong arguments; see the program's documentation")

// statusError makes the program end with this status and no message.
type statusError int

func (e statusError) Error() string { return "status " + strconv.Itoa(int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout)
	stop()
	if err == nil {
		return
	}
	if status, ok := errors.AsType[statusError](err); ok {
		os.Exit(int(status))
	}
	fmt.Fprintln(os.Stderr, "tools:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// command runs one verb and writes its result to out.
func command(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "serve":
		return serve(ctx, args, out)
	case "get":
		return get(ctx, args, out)
	case "probe":
		return probe(ctx, args, out)
	case "send":
		return send(ctx, args, out)
	case "lookup", "reverse":
		return lookup(ctx, verb, args, out)
	case "sleep":
		return sleep(ctx, args)
	case "exit":
		return exit(args)
	}
	return local(verb, args, out)
}

func sleep(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return nil
}

func exit(args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	code, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if code == 0 {
		return nil
	}
	return statusError(code)
}

// flags is a flag set whose errors come back instead of being printed.
func flags(verb string) *flag.FlagSet {
	fs := flag.NewFlagSet(verb, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}
