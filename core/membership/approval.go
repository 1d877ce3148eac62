package membership

import (
	"context"
	"errors"
	"fmt"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// NoApproval is the reason where the active strategy lets no person decide.
const NoApproval plugin.Reason = "NO_APPROVAL"

// PendingJoins lists the joins that this node serves and that wait for a
// person, the longest first. It starts the active clustering plugin, and
// changes nothing.
func (n Node) PendingJoins(ctx context.Context) ([]clustering.PendingJoin, error) {
	a, who, err := n.approver(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.Pending(ctx)
	return all, withoutApproval(who, err)
}

// verdict is what the journal keeps of a person's decision.
type verdict struct {
	Name    string `json:"name"`
	Approve bool   `json:"approve"`
	Reason  string `json:"reason,omitempty"`
}

// DecideJoin approves or denies the join that waits under a name. The joiner
// hears of it when it asks again.
func (n Node) DecideJoin(ctx context.Context, name string, approve bool, reason string) error {
	verb := "deny"
	if approve {
		verb = "approve"
	}
	r, err := n.Journal.Begin(ctx, "node "+verb, verdict{Name: name, Approve: approve, Reason: reason})
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, verb+" the join of "+name, func(ctx context.Context) error {
		a, who, err := n.approver(ctx)
		if err != nil {
			return err
		}
		return withoutApproval(who, a.Decide(ctx, clustering.Decision{Call: r.Call("decide"), Name: name, Approve: approve, Reason: reason}))
	}))
}

func (n Node) approver(ctx context.Context) (clustering.Approver, plugin.Identity, error) {
	c, who, err := n.Plugins.Clustering(ctx)
	if err != nil {
		return nil, who, err
	}
	a, ok := c.(clustering.Approver)
	if !ok {
		return nil, who, withoutApproval(who, plugin.Unsupported)
	}
	return a, who, nil
}

// withoutApproval says what to do where no person decides.
func withoutApproval(who plugin.Identity, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, plugin.Unsupported):
		return &plugin.Error{Reason: NoApproval, Message: fmt.Sprintf("with %s nobody approves joins: the token decides", who),
			Next: "mk plugin use clustering/approve, for the joins to come"}
	}
	return fmt.Errorf("%s: %w", who, err)
}
