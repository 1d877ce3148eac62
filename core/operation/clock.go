package operation

import (
	"time"

	"mk8s.io/mk/core/pki"
)

// checkClock refuses to make anything dated while the clock is known to be
// behind: it would not be valid, or expire before its time. The certificates on
// disk are read again when others have taken their place.
func (i *Issuer) checkClock(now time.Time) error {
	generation, err := i.Root.CurrentCerts()
	if err != nil {
		return err
	}
	i.mu.Lock()
	known, newest := i.seen == generation, i.newest
	i.mu.Unlock()
	if !known {
		var pems [][]byte
		for _, p := range pki.Profiles() {
			if data, err := i.Root.ReadFile(p.CertFile()); p.CertFile() != "" && err == nil {
				pems = append(pems, data)
			}
		}
		newest = pki.NewestNotBefore(pems...)
		i.mu.Lock()
		i.seen, i.newest = generation, newest
		i.mu.Unlock()
	}
	return pki.CheckClock(now, pki.ClockFloor(i.Floor, newest))
}
