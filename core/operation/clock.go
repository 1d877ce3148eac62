package operation

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"mk8s.io/mk/core/pki"
)

// checkClock refuses to make anything dated while the clock is known to be
// behind: it would not be valid, or expire before its time.
func (i *Issuer) checkClock(now time.Time) error {
	var files []string
	var seen strings.Builder
	for _, p := range pki.Profiles() {
		if p.CertFile() == "" {
			continue
		}
		if info, err := os.Stat(i.Root.Path(p.CertFile())); err == nil {
			files = append(files, p.CertFile())
			fmt.Fprintln(&seen, p.CertFile(), info.Size(), info.ModTime().UnixNano(), inodeOf(info))
		}
	}
	i.mu.Lock()
	known, newest := i.seen == seen.String(), i.newest
	i.mu.Unlock()
	if !known {
		var pems [][]byte
		for _, name := range files {
			if data, err := i.Root.ReadFile(name); err == nil {
				pems = append(pems, data)
			}
		}
		newest = pki.NewestNotBefore(pems...)
		i.mu.Lock()
		i.seen, i.newest = seen.String(), newest
		i.mu.Unlock()
	}
	return pki.CheckClock(now, pki.ClockFloor(i.Floor, newest))
}

// inodeOf tells a file from one that was put in its place.
func inodeOf(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
