package operation

import (
	"testing"
	"time"
)

// A wish that a node does not work with ends its services each time that it is
// tried: it is tried less and less often, and at least once a day.
func TestFailedWishesAreTriedLessOften(t *testing.T) {
	t.Parallel()
	for tries, want := range map[int]time.Duration{
		1: 10 * time.Minute, 2: 20 * time.Minute, 3: 40 * time.Minute, 8: 1280 * time.Minute, 9: 1280 * time.Minute, 1 << 40: 1280 * time.Minute,
		0: 10 * time.Minute, // of an mk that did not count
	} {
		if got := again(tries); got != want || got >= 24*time.Hour {
			t.Errorf("after %d tries: %s, want %s", tries, got, want)
		}
	}
}
