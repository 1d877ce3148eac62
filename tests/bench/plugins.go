package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// plugins runs the benchmarks of core/pluginhost, which take turns with their
// peers: the smallest gRPC plugin of go-plugin, and bare gRPC on a socket.
func (b *bench) plugins(ctx context.Context) ([]row, error) {
	b.say("a plugin's start and its calls")
	start, err := b.goBench(ctx, "core/pluginhost", "BenchmarkColdStart", b.times(20, 5), b.times(5, 1))
	if err != nil {
		return nil, err
	}
	call, err := b.goBench(ctx, "core/pluginhost", "BenchmarkCall", b.times(5000, 1000), b.times(5, 1))
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "cold start of a plugin, isolated and checked", ours: ms(start["mk-ms"]) + "; " + ms(start["first-ms"]) + " where it is hashed", peer: ms(start["peer-ms"]) + ", go-plugin",
			value: start["more-ms"], unit: "ms more", aim: 8, bound: 120},
		{what: "call of a plugin", ours: fmt.Sprintf("%.3g us", call["mk-us"]), peer: fmt.Sprintf("%.3g us, bare gRPC", call["peer-us"]),
			value: call["ratio"], unit: "x", aim: 1.3},
	}, nil
}

// tokens runs the benchmark of tokens/file's ledger: what a claim takes in a
// process that has just started, among few tokens and among many.
func (b *bench) tokens(ctx context.Context) ([]row, error) {
	b.say("claims among many tokens")
	got, err := b.goBench(ctx, "plugins/tokens-file/ledger", "BenchmarkClaim", b.times(101, 21), b.times(5, 1))
	if err != nil {
		return nil, err
	}
	ours := fmt.Sprintf("%s; %s with 10,000", ms(got["cold-100000-us"]/1e3), ms(got["cold-10000-us"]/1e3))
	return []row{{what: "first claim of a process, 100,000 tokens", ours: ours, peer: ms(got["cold-10-us"]/1e3) + ", 10 tokens",
		value: got["ratio"], unit: "x", aim: 1.1}}, nil
}

// goBench answers the medians of what a benchmark of a package reports.
func (b *bench) goBench(ctx context.Context, in, name string, times, count int) (map[string]float64, error) {
	test := filepath.Join(b.out, "testbin", filepath.Base(in)+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./"+in)
	build.Dir = b.repo
	if _, err := spend(build); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, test, "-test.run=^$", "-test.bench=^"+name+"$",
		fmt.Sprintf("-test.benchtime=%dx", times), fmt.Sprintf("-test.count=%d", count))
	cmd.Dir = filepath.Join(b.repo, in)
	c, err := spend(cmd)
	if err != nil {
		return nil, err
	}
	values := map[string][]float64{}
	for line := range strings.Lines(c.out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], name) {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", name, line, err)
			}
			values[fields[i+1]] = append(values[fields[i+1]], v)
		}
	}
	if len(values["ratio"]) != count {
		return nil, fmt.Errorf("%s reported %d ratios:\n%s", name, len(values["ratio"]), c.out)
	}
	out := map[string]float64{}
	for k, v := range values {
		out[k] = median(v)
	}
	return out, nil
}
