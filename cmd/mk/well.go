package main

import (
	"context"
	"errors"
	"fmt"

	"mk8s.io/mk/core/operation"
)

// well waits until the node works again, where a command had services start
// anew. number is the change that can be undone where it does not; 0 is none.
func (s *session) well(ctx context.Context, n *operation.Node, number int) error {
	if s.global.noWait {
		return nil
	}
	err := n.AwaitWell(ctx)
	if errors.Is(err, context.Canceled) {
		return &problem{Reason: "INTERRUPTED", Message: "interrupted", Why: "what was asked for is done; whether the node works with it was not waited for",
			exit: exitInterrupted, Next: []string{"mk status --wait-ready"}, Changed: true, err: err}
	}
	if err == nil {
		return nil
	}
	return unwell(ctx, err, number)
}

// unwell is the problem of a change that was made and that the node does not
// work with.
func unwell(ctx context.Context, err error, number int) *problem {
	p := explain(ctx, err)
	p.Changed = true
	if number > 0 {
		p.state = fmt.Sprintf("change %d is done; the node does not work with it", number)
		p.Next = append([]string{fmt.Sprintf("sudo mk changes undo %d", number)}, p.Next...)
	}
	return p
}
