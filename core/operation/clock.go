package operation

import (
	"syscall"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
)

// stamp tells a file or link from one that was put in its place.
type stamp struct {
	inode uint64
	at    time.Time
}

func stampOf(root *node.Root, name string) (s stamp) {
	info, err := root.Lstat(name)
	if err != nil {
		return s
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	s.at = info.ModTime()
	return s
}

// checkClock refuses to make anything dated while the clock is known to be
// behind: it would not be valid, or expire before its time. The certificates on
// disk are read again when others have taken their place.
func (i *Issuer) checkClock(now time.Time) error {
	member, err := pki.Find(pki.DatastoreMember)
	if err != nil {
		return err
	}
	stamps := [2]stamp{stampOf(i.Root, string(pki.CertsFolder)), stampOf(i.Root, member.CertFile())}
	i.mu.Lock()
	known, newest := i.seen == stamps, i.newest
	i.mu.Unlock()
	if !known {
		var pems [][]byte
		for _, p := range pki.Profiles() {
			if p.CertFile() == "" {
				continue
			}
			if data, err := i.Root.ReadFile(p.CertFile()); err == nil {
				pems = append(pems, data)
			}
		}
		newest = pki.NewestNotBefore(pems...)
		i.mu.Lock()
		i.seen, i.newest = stamps, newest
		i.mu.Unlock()
	}
	return pki.CheckClock(now, pki.ClockFloor(i.Floor, newest))
}
