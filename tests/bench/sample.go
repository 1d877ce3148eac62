package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cost is what a process took, its descendants included: those that were
// waited for, which is all that the programs here start.
type cost struct {
	wall, cpu time.Duration
	out       string
}

// spend runs a command that must succeed.
func spend(cmd *exec.Cmd) (cost, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), errs.String())
	}
	c := cost{wall: time.Since(begun), out: out.String()}
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if _, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); !ok {
		return cost{}, fmt.Errorf("%s: the system does not say what it cost", cmd.Args[0])
	}
	return c, nil
}

// inTurns runs every measure n times, each after the other, so that what else
// the machine does hits all of them. It answers n values for each.
func inTurns(n int, measures ...func() (float64, error)) ([][]float64, error) {
	values := make([][]float64, len(measures))
	for range n {
		for i, m := range measures {
			v, err := m()
			if err != nil {
				return nil, err
			}
			values[i] = append(values[i], v)
		}
	}
	return values, nil
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// medians are those of what inTurns answered.
func medians(values [][]float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = median(v)
	}
	return out
}

// means are those of what was measured in turns.
func means(values [][]float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		for _, x := range v {
			out[i] += x / float64(len(v))
		}
	}
	return out
}

func ms(v float64) string { return fmt.Sprintf("%.3g ms", v) }

func inMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
