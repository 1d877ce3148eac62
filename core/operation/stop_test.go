package operation

import (
	"errors"
	"testing"

	"mk8s.io/mk/core/service"
)

// TestRestartAfterStop: a node that was stopped while a restart waited for its
// turn stays stopped.
func TestRestartAfterStop(t *testing.T) {
	t.Parallel()
	n := startedNode(t)
	stopped := *n.Record
	stopped.Stopped = true
	if err := n.Root.SaveRecord(&stopped); err != nil { // by another process
		t.Fatal(err)
	}
	if err := n.Restart(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("it was restarted: %v", err)
	}
	list, err := n.services.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.State == service.Running {
			t.Errorf("%s runs", s.Name)
		}
	}
}
