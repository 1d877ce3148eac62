package pki

import (
	"errors"
	"fmt"
	"time"
)

// ErrClock says that the clock is known to be wrong, so that nothing may be made that carries a date.
var ErrClock = errors.New("the clock is behind")

// ClockFloor is the latest moment of which the node knows that it has passed: mk was built then, or its newest
// certificate began. Either may be the zero time.
func ClockFloor(build, newestNotBefore time.Time) time.Time {
	if newestNotBefore.After(build) {
		return newestNotBefore
	}
	return build
}

// NewestNotBefore is the latest beginning among certificates and bundles, or the zero time. What cannot be read is left
// out: it says nothing about the time, and Judge names it.
func NewestNotBefore(pems ...[]byte) time.Time {
	var newest time.Time
	for _, data := range pems {
		certs, err := ParseBundle(data)
		if err != nil {
			continue
		}
		for _, c := range certs {
			newest = ClockFloor(newest, c.NotBefore)
		}
	}
	return newest
}

// CheckClock must pass before any key or certificate is made. Its error is ErrClock.
func CheckClock(now, floor time.Time) error {
	if now.Before(floor) {
		return fmt.Errorf("%w: here it is %s, but it was %s already when mk was built or its newest certificate began",
			ErrClock, stamp(now), stamp(floor))
	}
	return nil
}
