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
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("find the program in memory: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(maps)) {
		if from, size, ok := unchanged(line, exe); ok {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, size, unix.MADV_DONTNEED); errno != 0 {
				errs = append(errs, fmt.Errorf("give back %d bytes of the program: %w", size, errno))
			}
		}
	}
	return errors.Join(errs...)
}

// unchanged reads one line of /proc/PID/maps: where a part of exe lies that
// nobody can have written to.
func unchanged(line, exe string) (from, size uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[5] != exe || (fields[1] != "r-xp" && fields[1] != "r--p") {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	a, err := strconv.ParseUint(first, 16, 64)
	b, err2 := strconv.ParseUint(last, 16, 64)
	if errors.Join(err, err2) != nil || b <= a {
		return 0, 0, false
	}
	return uintptr(a), uintptr(b - a), true
}
