package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/timer"
)

const (
	turnName = "turn"
	turnLong = 3 * time.Minute
	turnLook = 500 * time.Millisecond
)

// turn says who restarts its control plane just now.
type turn struct {
	Node  string    `json:"node"`
	Until time.Time `json:"until"`
}

// Turns let one control-plane node after the other restart, so that the
// others answer meanwhile. A turn that is not given back ends by itself.
type Turns struct {
	Client *kube.Client
	Now    func() time.Time
}

// Take waits for this node's turn and answers how to give it back. waiting
// hears for whom it waits.
func (t Turns) Take(ctx context.Context, node string, waiting func(string)) (back func(context.Context) error, err error) {
	for {
		doc, err := t.Client.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, turnName)
		if kube.NotFound(err) {
			doc, err = kube.Document{Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: turnName}, nil
		}
		if err != nil {
			return nil, err
		}
		var now turn
		_ = json.Unmarshal(doc.Data[turnField], &now) // what cannot be read is nobody's
		if now.Node == "" || now.Node == node || t.Now().After(now.Until) {
			err := t.write(ctx, doc, turn{Node: node, Until: t.Now().Add(turnLong).UTC()})
			if err == nil {
				return func(ctx context.Context) error { return t.give(ctx, node) }, nil
			}
			if !kube.Conflict(err) {
				return nil, err
			}
		}
		waiting("for " + now.Node + ", which restarts its control plane")
		if !timer.Wait(ctx, turnLook) {
			return nil, fmt.Errorf("wait until %s has restarted its control plane: %w", now.Node, ctx.Err())
		}
	}
}

const turnField = "turn"

func (t Turns) write(ctx context.Context, doc kube.Document, to turn) error {
	data, err := json.Marshal(to)
	if err != nil {
		return fmt.Errorf("write whose turn it is: %w", err)
	}
	doc.Data = map[string][]byte{turnField: data}
	_, err = t.Client.WriteDocument(ctx, doc)
	return err
}

func (t Turns) give(ctx context.Context, node string) error {
	doc, err := t.Client.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, turnName)
	if err != nil {
		return err
	}
	var now turn
	if json.Unmarshal(doc.Data[turnField], &now) != nil || now.Node != node {
		return nil // it had ended
	}
	if err := t.write(ctx, doc, turn{}); err != nil && !kube.Conflict(err) {
		return err
	}
	return nil
}
