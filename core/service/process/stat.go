package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

type stat struct {
	state   byte
	parent  int
	session int
	start   uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return stat{}, ErrGone
	}
	if err != nil {
		return stat{}, fmt.Errorf("read state of process %d: %w", pid, err)
	}
	return parseStat(string(b))
}

// parseStat reads /proc/<pid>/stat. The second field is the program's name in
// parentheses and may hold anything, parentheses and spaces too.
func parseStat(s string) (stat, error) {
	end := strings.LastIndexByte(s, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("process state %.40q has no name", s)
	}
	f := strings.Fields(s[end+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, fmt.Errorf("process state %.40q is too short", s)
	}
	parent, err1 := strconv.Atoi(f[1])
	session, err2 := strconv.Atoi(f[3])
	start, err3 := strconv.ParseUint(f[19], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return stat{}, fmt.Errorf("process state %.40q: %w", s, err)
	}
	return stat{state: f[0][0], parent: parent, session: session, start: start}, nil
}

// ZombieChildren lists the children of this process that ended and were not
// waited for.
func ZombieChildren() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil && st.state == 'Z' && st.parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
