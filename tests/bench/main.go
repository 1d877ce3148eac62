// Command bench measures mk beside what can be had without it, and prints a
// table of ratios with the aim of each: make bench, make bench-smoke. What is
// measured, and how, stands in docs/benchmarks.md.
//
// Guaranteed: both sides of a row are measured in one run, in turns, and the
// table holds medians. It fails where a row cannot be measured or is far from
// its aim. Not guaranteed: that an aim is met; the table says which are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	repo     string // the folder of the sources
	out      string // where mk's programs are
	smoke    bool
	progress io.Writer
}

// times is how often something is measured: of a smoke run only few times.
func (b *bench) times(full, smoke int) int {
	if b.smoke {
		return smoke
	}
	return full
}

func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.progress, format+"\n", a...) }

func run(ctx context.Context, args []string) error {
	if len(args) > 1 {
		switch args[0] {
		case identityWord:
			return identity(ctx, args[1:])
		case agentsWord:
			return serveAgents(ctx, args[1:])
		case fanoutWord:
			return askAgents(ctx, args[1:])
		}
	}
	b := &bench{progress: os.Stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&b.smoke, "smoke", false, "measure briefly")
	flags.StringVar(&b.repo, "repo", ".", "the `FOLDER` of the sources")
	only := flags.String("only", "", "measure only these `GROUPS`, with commas: "+strings.Join(groupNames(), ","))
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if b.repo, err = filepath.Abs(b.repo); err != nil {
		return err
	}
	b.out = filepath.Join(b.repo, "out")
	if os.Geteuid() != 0 {
		return errors.New("starting nodes and isolating plugins needs root")
	}
	var rows []row
	for _, g := range groups() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), g.name) {
			continue
		}
		got, err := g.measure(b, ctx)
		rows = append(rows, got...)
		if err != nil {
			printTable(os.Stdout, rows)
			return fmt.Errorf("%s cannot be measured: %w", g.name, err)
		}
	}
	printTable(os.Stdout, rows)
	return judge(rows)
}

// group is rows that are measured together.
type group struct {
	name    string
	measure func(*bench, context.Context) ([]row, error)
}

func groups() []group {
	return []group{{"certs", (*bench).certs}, {"plugins", (*bench).plugins}, {"tokens", (*bench).tokens}, {"fanout", (*bench).fanout}, {"node", (*bench).node}, {"join", (*bench).join}}
}

func groupNames() []string {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}
