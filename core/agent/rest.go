package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// restAfter is how long nothing must have happened before memory is given
// back: tasks come in groups.
const restAfter = 30 * time.Second

// rests gives memory back after every time of work, the start of the process
// among them. Between them it wakes up for nothing.
func (o Options) rests(ctx context.Context) {
	for {
		for again := true; again; {
			t := time.NewTimer(restAfter)
			select {
			case <-t.C:
				again = false
			case <-o.worked:
				t.Stop()
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
		if err := giveBack(); err != nil {
			o.Log.Debug("memory not given back", "error", err.Error())
		}
		select {
		case <-o.worked:
		case <-ctx.Done():
			return
		}
	}
}

// note says that something was done.
func (o Options) note() {
	select {
	case o.worked <- struct{}{}:
	default: // it is known
	}
}

// giveBack gives the machine the memory that only work needs: free pages of
// the heap, and those of the program's file. The start of a Go program touches
// most of its file, and one that waits next to nothing of it; what is needed
// again is read again, mostly from the page cache.
func giveBack() error {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // by an upgrade
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("find the program in memory: %w", err)
	}
	var errs []error
	for _, p := range unchanged(string(smaps), exe) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, p.from, p.size, unix.MADV_DONTNEED); errno != 0 {
			errs = append(errs, fmt.Errorf("give back %d bytes of the program: %w", p.size, errno))
		}
	}
	return errors.Join(errs...)
}

// part is a part of this process's memory.
type part struct{ from, size uintptr }

// unchanged reads /proc/PID/smaps: where parts of exe lie that hold what the
// file holds. Nobody can write to them, and nobody has: what the linker wrote
// before it closed them, as in a position-independent program, would be lost.
func unchanged(smaps, exe string) []part {
	var out []part
	var p part
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // the next one begins
			p = part{}
			if len(fields) > 5 && fields[5] == exe && (fields[1] == "r-xp" || fields[1] == "r--p") {
				p = partAt(fields[0])
			}
		case p.size > 0 && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0":
			out = append(out, p)
		}
	}
	return out
}

// partAt reads FROM-TO; what cannot be read is empty.
func partAt(s string) part {
	first, last, _ := strings.Cut(s, "-")
	a, err := strconv.ParseUint(first, 16, 64)
	b, err2 := strconv.ParseUint(last, 16, 64)
	if errors.Join(err, err2) != nil || b <= a {
		return part{}
	}
	return part{uintptr(a), uintptr(b - a)}
}
