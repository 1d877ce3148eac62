package membership

import (
	"errors"
	"fmt"
	"time"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

// SkewError says that the clocks of two nodes are too far apart for the
// certificates of one to be good on the other.
type SkewError struct {
	Node        string // the server
	Here, There time.Time
}

// Error says how far, and what each shows.
func (e *SkewError) Error() string {
	return fmt.Sprintf("clocks are %s apart: here %s, %s %s", e.Apart(), e.Here.Format("15:04 UTC"), e.Node, e.There.Format("15:04 UTC"))
}

// Is makes it findable by its reason.
func (e *SkewError) Is(target error) bool { return target == ClockSkew }

// Apart is how far, as people say it.
func (e *SkewError) Apart() string {
	switch d := e.Here.Sub(e.There).Abs(); {
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Round(time.Minute).Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Round(time.Hour).Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// ClosedPort is a port that one node does not reach on another.
type ClosedPort struct {
	From, To, Address string
	Port              int
	Why               string
}

// NotReached is the reason of a join whose nodes do not reach each other.
const NotReached plugin.Reason = "NOT_REACHED"

// PortsError says which ports are closed between two nodes.
type PortsError struct {
	Server, Joiner string
	Back           bool // from the server to the joiner
	Closed         []ClosedPort
	Open           []string
}

// Error names the first port.
func (e *PortsError) Error() string {
	p := e.Closed[0]
	from, to := p.From, p.To
	if e.Back {
		to = "this node"
	} else {
		from = "this node"
	}
	text := fmt.Sprintf("%s does not reach %s on port %d", from, to, p.Port)
	if more := len(e.Closed) - 1; more > 0 {
		text += fmt.Sprintf(" and %d others", more)
	}
	return text
}

// Is makes it findable by its reason.
func (e *PortsError) Is(target error) bool { return target == NotReached }

// SilentError says at which step the nodes that were asked did not answer.
type SilentError struct {
	Step string
	Open bool // the operation stands open: the same verb goes on with it
	Err  error
}

// silent is err, as a *SilentError where a node did not answer.
func silent(err error, step string) error {
	if _, known := errors.AsType[*SilentError](err); known || errors.Is(err, plugin.NotPossible) || !errors.Is(err, peer.Unreachable) && !errors.Is(err, peer.NotNow) {
		return err
	}
	return &SilentError{Step: step, Err: err}
}

// Error says who, and at which step.
func (e *SilentError) Error() string { return fmt.Sprintf("%v (at the step %q)", e.Err, e.Step) }

// Unwrap is what each of them was asked, and why that failed.
func (e *SilentError) Unwrap() error { return e.Err }

// ended says in an error of an operation that has ended whether it stands open.
func ended(err error, rec *operation.Record) error {
	if e, ok := errors.AsType[*SilentError](err); ok {
		e.Open = rec.State == operation.Open
	}
	return err
}

func errMember() error {
	return &plugin.Error{Reason: IsMember, Message: "this node belongs to a cluster already",
		Next: "mk leave, or, where the cluster is this node alone: mk reset --all"}
}
