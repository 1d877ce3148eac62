package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
)

// asking compares mk version and mk status with the client in tests/bench/bare,
// which makes the same calls and does nothing else.
func (n *benchNode) asking(ctx context.Context) ([]row, error) {
	bare := filepath.Join(n.b.out, "testbin/bare")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bare, "./tests/bench/bare")
	build.Dir = n.b.repo
	if _, err := spend(build); err != nil {
		return nil, err
	}
	var rows []row
	for _, verb := range []string{"version", "status"} {
		n.b.say("mk %s", verb)
		wall := func(words ...string) func() (float64, error) {
			return func() (float64, error) {
				c, err := spend(n.Command(ctx, words[0], words[1:]...))
				return inMS(c.wall), err
			}
		}
		values, err := inTurns(n.b.times(41, 7), wall("mk", verb), wall(bare, verb, n.Root, "/run/mk/"+n.ID()))
		if err != nil {
			return rows, err
		}
		m := medians(values)
		rows = append(rows, row{what: strings.Join([]string{"mk", verb}, " "), ours: ms(m[0]), peer: ms(m[1]) + ", a bare client", value: m[0] / m[1], unit: "x", aim: 1.5})
	}
	return rows, nil
}
