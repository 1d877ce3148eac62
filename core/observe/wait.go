package observe

import (
	"context"
	"fmt"
	"time"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/service"
)

// tooOften is how many restarts show that waiting is of no use.
const tooOften = 5

// HopelessError says why a node cannot become ready by itself.
type HopelessError struct {
	Service string
	Why     string
	Next    string
}

// Error names the service.
func (e *HopelessError) Error() string {
	if e.Service == "" {
		return "not ready: " + e.Why
	}
	return fmt.Sprintf("not ready: %s: %s", e.Service, e.Why)
}

// WaitReady waits until the node is Ready. It says what it waits for when that
// changes, and ends early where waiting is of no use.
func WaitReady(ctx context.Context, n *operation.Node, progress func(string)) error {
	last, pause := "", 200*time.Millisecond
	for {
		s := NodeStatus(ctx, n)
		if s.Ready {
			return nil
		}
		if err := hopeless(s); err != nil {
			return err
		}
		if what := waitingFor(s); what != last {
			progress(what)
			last = what
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
			pause = min(2*pause, 2*time.Second)
		case <-ctx.Done():
			t.Stop()
			return &HopelessError{Service: blamed(s), Why: last + lastError(s), Next: "mk logs " + blamed(s)}
		}
	}
}

func hopeless(s *Status) error {
	if s.Stopped {
		return &HopelessError{Why: "the node is stopped", Next: "sudo mk start"}
	}
	for _, x := range s.Services {
		if x.Restarts >= tooOften {
			return &HopelessError{Service: x.Name, Why: fmt.Sprintf("it was started again %d times: %s", x.Restarts, x.LastError), Next: "mk logs " + x.Name}
		}
	}
	if len(s.Services) == 0 && len(s.Silent) == 0 {
		return &HopelessError{Why: "no service runs", Next: "sudo mk start"}
	}
	return nil
}

// blamed is the service that most likely is to blame.
func blamed(s *Status) string {
	for _, x := range s.Services {
		if x.State != service.Running {
			return x.Name
		}
	}
	return "kubelite"
}

func lastError(s *Status) string {
	for _, x := range s.Services {
		if x.Name == blamed(s) && x.LastError != "" {
			return ": " + x.LastError
		}
	}
	return ""
}

func waitingFor(s *Status) string {
	for _, x := range s.Services {
		if x.State != service.Running {
			return "waiting for " + x.Name + " (" + string(x.State) + ")"
		}
	}
	for source, why := range s.Silent {
		return "waiting for the " + source + ": " + why
	}
	for _, x := range s.Nodes {
		if x.Name == s.Node {
			return "waiting for the node: " + x.Reason
		}
	}
	return "waiting for the node to register"
}
