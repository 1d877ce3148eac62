package membership

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/sdk/plugin"
)

// LetGo does for a member that leaves what it cannot do itself: its object and
// record go.
func (n Node) LetGo(ctx context.Context, who Caller, in peer.Leave) error {
	if who.Member != "" && in.Node == who.Member {
		if err := recovery.Of(n.Node).SettleWithout(ctx, who.Member); err != nil {
			n.detail(fmt.Sprintf("the datastore does not go on without %s: %v", who.Member, err))
		}
	}
	if _, err := n.speaker(ctx, who, in); err != nil {
		return err
	}
	return n.ForgetNode(ctx, who.Member)
}

// servedDrain is how long a member's pods have to go: less than the member waits
// for the answer, so that it hears which of them do not.
const servedDrain = 100 * time.Second

// LetGoOfPods moves the pods of a member that leaves elsewhere.
func (n Node) LetGoOfPods(ctx context.Context, who Caller, in peer.Leave) error {
	store, err := n.speaker(ctx, who, in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, servedDrain)
	defer cancel()
	err = n.drained(ctx, store.Client, who.Member)
	if e, ok := errors.AsType[*kube.DrainError](err); ok && len(e.Blocked) > 0 {
		return &plugin.Error{Reason: plugin.NotPossible, Message: e.Error(), Next: "mk leave --no-drain, or mk stop, leaves its pods to end with it"}
	}
	return err
}

// speaker refuses whoever does not speak for itself. A node without a record
// is no stranger: one that has left may come a second time.
func (n Node) speaker(ctx context.Context, who Caller, in peer.Leave) (cluster.Members, error) {
	store, err := n.Store()
	if err != nil {
		return store, err
	}
	if who.Member == "" || in.Node != who.Member {
		return store, plugin.Errorf(NotAllowed, "a node speaks for itself only")
	}
	m, err := store.Get(ctx, who.Member)
	if err == nil && m != nil && !speaks(m, who) {
		err = plugin.Errorf(NotAllowed, "the name %s is another node's now", who.Member)
	}
	return store, err
}

// saveAgain is how old a snapshot may be that serves for another node, too.
const saveAgain = time.Minute

// SaveFor takes a snapshot for a control-plane node that leaves.
func (n Node) SaveFor(ctx context.Context, who Caller, _ peer.Leave) error {
	if err := n.Known(ctx, who, ""); err != nil {
		return err
	}
	r := recovery.Of(n.Node)
	list, err := r.Snapshots()
	if err != nil || (len(list) > 0 && n.Now().Sub(list[0].Taken) < saveAgain) {
		return err
	}
	_, err = r.Save(ctx, recovery.SaveOptions{Why: "leave"})
	return err
}
