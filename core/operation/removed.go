package operation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/revoked"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// barredFor is longer than any certificate of a node lives.
	barredFor = 400 * 24 * time.Hour
	// barLimit is how long a change of the list may take.
	barLimit = 30 * time.Second
	// refuseLimit is how long API servers may take to go by it: they watch it.
	refuseLimit = 4 * time.Second
)

// Expel has the API servers refuse everything to a node's programs, whatever
// certificates there are, and removes its object and what it reads by its name.
// A join of that name ends that.
func (n *Node) Expel(ctx context.Context, store cluster.Members, name string) error {
	if pki.CheckNodeName(name) == nil { // else no kubelet is certified for it
		if err := n.refuse(ctx, store, name); err != nil {
			return err
		}
	}
	if err := store.Client.DeleteNode(ctx, name); err != nil && !kube.NotFound(err) {
		return err
	}
	return cluster.Reports{Client: store.Client}.Revoke(ctx, name)
}

// refuse has the API servers refuse a node's programs: what is removed before
// they do the node could make anew. Where a node of that name was let in
// meanwhile the error is ErrChanged.
func (n *Node) refuse(ctx context.Context, store cluster.Members, name string) error {
	err := n.bar(ctx, store, name, true, func(list map[string][]byte) bool {
		list[name] = []byte(n.Now().UTC().Format(time.RFC3339))
		return true
	})
	if err != nil {
		return err
	}
	doc, err := barredList{store.Client}.read(ctx)
	if _, there := doc.Data[name]; err == nil && !there {
		err = fmt.Errorf("node %s: %w", name, cluster.ErrChanged)
	}
	return err
}

// bar changes the list of nodes that were removed, which all API servers follow,
// and waits until they go by it. One that does not answer is not waited for.
func (n *Node) bar(ctx context.Context, store cluster.Members, name string, refused bool, change func(map[string][]byte) bool) error {
	if err := n.barring.change(ctx, barredList{store.Client}, n.Now(), change); err != nil {
		return err
	}
	all, err := store.List(ctx)
	if err != nil {
		n.detail(err.Error())
	}
	limited, cancel := context.WithTimeout(ctx, refuseLimit)
	defer cancel()
	var servers sync.WaitGroup
	for _, m := range all {
		if m.Role == plugin.RoleControlPlane && m.Name != name {
			servers.Go(func() {
				if err := n.heardAt(limited, m.Address, name, refused); err != nil {
					n.detail(fmt.Sprintf("the API server of %s: %v", m.Name, err))
				}
			})
		}
	}
	servers.Wait()
	return nil
}

func (n *Node) heardAt(ctx context.Context, address, name string, refused bool) error {
	c, err := kube.ConnectFile(n.Root.Credentials(n.Kubeconfig()), kube.Options{
		Version: n.Version, Server: "https://" + net.JoinHostPort(address, strconv.Itoa(n.Record.Network.APIPort))})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.WaitNodeRefused(ctx, name, refused)
}

// Barred reports whether a node of that name was removed, and not let in again.
func (n *Node) Barred(ctx context.Context, store cluster.Members, name string) (bool, error) {
	doc, err := barredList{store.Client}.read(ctx)
	_, there := doc.Data[name]
	return there, err
}

// Unbar lets a node of that name in again: what a kubelet is refused when it
// starts, it does not ask for again.
func (n *Node) Unbar(ctx context.Context, store cluster.Members, name string) error {
	return n.bar(ctx, store, name, false, func(list map[string][]byte) bool {
		_, there := list[name]
		delete(list, name)
		return there
	})
}

// Relist has a name refused, or let in, as its record says, and answers that.
// Whoever changed the list looks at the record behind it, and whoever deleted the
// record at the list: so what two nodes do at once agrees when both have ended,
// also where nobody waits for the answer any more.
func (n *Node) Relist(ctx context.Context, store cluster.Members, name string) (*cluster.Member, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), barLimit)
	defer cancel()
	for {
		m, err := store.Get(ctx, name)
		if err != nil || pki.CheckNodeName(name) != nil {
			return m, err
		}
		live := m != nil && m.Live(n.Now())
		barred, err := n.Barred(ctx, store, name)
		if err != nil || live != barred {
			return m, err
		}
		if live {
			err = errors.Join(cluster.Reports{Client: store.Client}.Grant(ctx, name), n.Unbar(ctx, store, name))
		} else {
			err = n.Expel(ctx, store, name)
		}
		if err != nil {
			return m, err
		}
	}
}

// UnbarSelf lets this node in again where its data say that it was removed, as
// a snapshot of another time or node may. It waits for the API server.
func (n *Node) UnbarSelf(ctx context.Context) error {
	store, err := n.Store()
	if err != nil {
		return err
	}
	return n.patiently(ctx, readyTimeout, func(ctx context.Context) error {
		if err := store.Client.WaitReady(ctx, n.detail); err != nil {
			return err
		}
		barred, err := n.Barred(ctx, store, n.Record.Name)
		if err != nil || !barred {
			return err
		}
		return errors.Join(n.Unbar(ctx, store, n.Record.Name), n.services.Restart(ctx, defaults.Kubelite))
	})
}

// barredStore is where the list is kept.
type barredStore interface {
	read(ctx context.Context) (kube.Document, error)
	write(ctx context.Context, doc kube.Document) error
}

// barring changes the list for all that a process does at once. What is wanted
// while one change is on its way is made together by the next: of many nodes
// that come or go none waits for each of the others.
type barring struct {
	turn chan struct{} // holds one: whoever writes

	mu   sync.Mutex
	next []*barWish
}

// barWish is one change of the list, and what came of it.
type barWish struct {
	change func(map[string][]byte) bool
	done   chan error // holds one
}

func newBarring() *barring { return &barring{turn: make(chan struct{}, 1)} }

// change makes a change of the list. One that reports false is none, wherever
// it is made.
func (b *barring) change(ctx context.Context, list barredStore, now time.Time, change func(map[string][]byte) bool) error {
	doc, err := list.read(ctx)
	if err != nil {
		return err
	}
	if !change(maps.Clone(doc.Data)) {
		return nil
	}
	w := &barWish{change: change, done: make(chan error, 1)}
	b.mu.Lock()
	b.next = append(b.next, w)
	b.mu.Unlock()
	select {
	case b.turn <- struct{}{}:
	case err := <-w.done: // with another's
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait to change the list of removed nodes: %w", ctx.Err())
	}
	defer func() { <-b.turn }()
	b.mu.Lock()
	all := b.next
	b.next = nil
	b.mu.Unlock()
	if len(all) > 0 {
		// It is for others, too: they do not lose it when this caller goes.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), barLimit)
		defer cancel()
		err := write(ctx, list, now, all)
		for _, w := range all {
			w.done <- err
		}
	}
	return <-w.done
}

// write makes changes of the list. Other nodes may write at the same time:
// each time that this fails one of them is done.
func write(ctx context.Context, list barredStore, now time.Time, all []*barWish) error {
	for {
		doc, err := list.read(ctx)
		if err != nil {
			return err
		}
		changed := false
		for _, w := range all {
			changed = w.change(doc.Data) || changed
		}
		if !changed {
			return nil
		}
		maps.DeleteFunc(doc.Data, func(_ string, when []byte) bool {
			at, err := time.Parse(time.RFC3339, string(when))
			return err != nil || now.Sub(at) > barredFor
		})
		if err := list.write(ctx, doc); !kube.Conflict(err) {
			return err
		}
	}
}

// barredList is the list in a cluster.
type barredList struct{ client *kube.Client }

func (l barredList) read(ctx context.Context) (kube.Document, error) {
	doc, err := l.client.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, revoked.Name)
	if kube.NotFound(err) {
		doc, err = kube.Document{Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: revoked.Name}, nil
	}
	if doc.Data == nil {
		doc.Data = map[string][]byte{}
	}
	return doc, err
}

func (l barredList) write(ctx context.Context, doc kube.Document) error {
	_, err := l.client.WriteDocument(ctx, doc)
	return err
}
