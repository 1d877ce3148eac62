package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one process of a node.
type process struct {
	pid    int
	parent int
	exe    string
	argv   []string
	name   string // what it is called here
}

// processes are those of a node: in its network namespace, and what descends
// from them.
func (n *benchNode) processes() ([]process, error) {
	here, err := os.Stat("/run/netns/" + n.Name)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out, others []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, ok := look(pid)
		if !ok {
			continue
		}
		p.name = n.called(p)
		if theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && os.SameFile(here, theirs) {
			out = append(out, p)
		} else {
			others = append(others, p)
		}
	}
	known := map[int]bool{}
	for _, p := range out {
		known[p.pid] = true
	}
	for again := true; again; {
		again = false
		for _, p := range others {
			if known[p.parent] && !known[p.pid] {
				known[p.pid], again = true, true
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func look(pid int) (process, bool) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return process{}, false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	fields, statErr := stat(pid)
	if errors.Join(err, statErr) != nil || len(cmdline) == 0 {
		return process{}, false
	}
	return process{pid: pid, exe: exe, argv: strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00"), parent: int(fields[1])}, true
}

// called names a process: mk's own are told apart from the programs of others
// that it starts, and from what those start.
func (n *benchNode) called(p process) string {
	switch name := filepath.Base(p.exe); {
	case strings.HasPrefix(p.exe, n.Root+"/plugins/"):
		return "plugin " + name
	case name == "mk":
		return "mk " + p.argv[len(p.argv)-1]
	case name == "kubelite":
		return filepath.Base(p.argv[0])
	default:
		return name
	}
}

// stat are the numbers of /proc/PID/stat from the fourth field on, the parent,
// with the state, no number, before them.
func stat(pid int) ([]int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')'):]), " ")
	var out []int64
	for _, f := range strings.Fields(rest) {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil && len(out) > 0 {
			v = 0 // larger than a number here; none that is read
		}
		out = append(out, v)
	}
	if len(out) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(out))
	}
	return out, nil
}

// startedOnce tells how much the ended children of a process did: it grows
// with every process that it started and waited for. The value is their page
// faults; no process ends without one.
func startedOnce(pid int) (int64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return fields[8], nil // cminflt
}

// ran is the processor time of a process's threads, in nanoseconds.
func ran(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		first, _, _ := strings.Cut(string(data), " ")
		v, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += v
	}
	return sum, nil
}

// memory is what a process has in memory, in bytes, and how much of it is its
// own and not of a file.
func memory(pid int) (all, own int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		v, err := strconv.ParseInt(fields[1], 10, 64)
		switch {
		case err != nil:
		case fields[0] == "VmRSS:":
			all = v << 10
		case fields[0] == "RssAnon:":
			own = v << 10
		}
	}
	if all == 0 {
		return 0, 0, fmt.Errorf("process %d has no memory", pid)
	}
	return all, own, nil
}
