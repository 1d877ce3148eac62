package operation

import (
	"errors"
	"os"
	"testing"
	"time"

	"mk8s.io/mk/core/pki"
)

// TestNothingIsMadeWhileTheClockIsBehind: neither behind mk's own build, before
// anything is written, nor behind the newest certificate on disk.
func TestNothingIsMadeWhileTheClockIsBehind(t *testing.T) {
	t.Parallel()
	mk := shippedPlugins(t)
	c := newNode(t, mk)
	early := c.options(nil)
	early.Now = func() time.Time { return early.Built.Add(-time.Hour) }
	if err := Preflight(t.Context(), early, StartOptions{}); !errors.Is(err, pki.ErrClock) {
		t.Errorf("a start before mk was built: %v", err)
	}
	if _, err := os.Lstat(c.Root); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
	c.run(t)
	late := c.options(nil)
	late.Now = func() time.Time { return time.Now().Add(-time.Hour) } // long after the build
	n, err := c.open(late)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // nothing was started
	before := files(t, c.Root)
	if _, err := n.Renew(t.Context(), RenewOptions{}); !errors.Is(err, pki.ErrClock) {
		t.Errorf("certificates older than those on disk: %v", err)
	}
	for name, text := range files(t, c.Root) {
		if before[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
}
