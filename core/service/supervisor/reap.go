package supervisor

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"mk8s.io/mk/core/service/process"
)

// reapEvery is also how long an orphan must have been a zombie: whoever
// started a process in this program waits for it sooner than that.
const reapEvery = 10 * time.Second

// reapOrphans is for a supervisor that is process 1 of a container: orphans
// become its children and nobody else waits for them. A child that is a zombie
// at two looks in a row, and is not a service, is reaped.
func reapOrphans(ctx context.Context, services func() map[int]bool) {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	seen := map[int]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		seen = reapOnce(seen, services())
	}
}

func reapOnce(seen, services map[int]bool) map[int]bool {
	now := map[int]bool{}
	for _, pid := range process.ZombieChildren() {
		if services[pid] {
			continue
		}
		if seen[pid] {
			var st unix.WaitStatus
			_, _ = unix.Wait4(pid, &st, unix.WNOHANG, nil)
			continue
		}
		now[pid] = true
	}
	return now
}
