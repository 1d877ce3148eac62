package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

const (
	barredName = "removed-nodes"
	// barredFor is longer than any certificate of a node lives.
	barredFor = 400 * 24 * time.Hour
	// barLimit is how long a change of the list may take.
	barLimit = 30 * time.Second
	// refuseLimit is how long API servers may take to go by it: they look every
	// second.
	refuseLimit = 4 * time.Second
)

// Expel removes a node's object and what it reads by its name, for good: its
// kubelet cannot make the node anew with the certificate that it still has. A
// join of that name ends that.
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

// refuse has the API servers refuse the kubelet of a node to make that node:
// what is removed before they do could be made anew. One that does not answer
// is not waited for. Where a node of that name was let in meanwhile the error is
// ErrChanged.
func (n *Node) refuse(ctx context.Context, store cluster.Members, name string) error {
	err := n.changeBarred(ctx, store.Client, func(list map[string][]byte) bool {
		list[name] = []byte(n.Now().UTC().Format(time.RFC3339))
		return true
	})
	if err != nil {
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
				if err := n.refusedAt(limited, m.Address, name); err != nil {
					n.detail(fmt.Sprintf("the API server of %s: %v", m.Name, err))
				}
			})
		}
	}
	servers.Wait()
	doc, err := barredList{store.Client}.read(ctx)
	if _, there := doc.Data[name]; err == nil && !there {
		err = fmt.Errorf("node %s: %w", name, cluster.ErrChanged)
	}
	return err
}

func (n *Node) refusedAt(ctx context.Context, address, name string) error {
	c, err := kube.ConnectFile(n.Root.Credentials(n.Kubeconfig()), kube.Options{
		Version: n.Version, Server: "https://" + net.JoinHostPort(address, strconv.Itoa(n.Record.Network.APIPort))})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.WaitRefusesNode(ctx, name)
}

// Barred reports whether a node of that name was removed, and not let in again:
// by the list, or by what the API server goes by, which may be an older list.
func (n *Node) Barred(ctx context.Context, store cluster.Members, name string) (bool, error) {
	doc, err := barredList{store.Client}.read(ctx)
	if _, there := doc.Data[name]; there || err != nil {
		return there, err
	}
	have, err := store.Client.Object(ctx, policies(), "mk-"+barredName)
	return err == nil && refuses(have, name), ignoreNotFound(err)
}

// refuses reports whether a policy keeps the kubelet of that name out.
func refuses(policy *unstructured.Unstructured, name string) bool {
	return strings.Contains(expressionOf(policy), strconv.Quote(name))
}

func policies() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"}
}

// Unbar lets a node of that name in again.
func (n *Node) Unbar(ctx context.Context, store cluster.Members, name string) error {
	return n.changeBarred(ctx, store.Client, func(list map[string][]byte) bool {
		_, there := list[name]
		delete(list, name)
		return there
	})
}

// changeBarred changes the list of nodes that were removed, and has the API
// server go by it.
func (n *Node) changeBarred(ctx context.Context, c *kube.Client, change func(map[string][]byte) bool) error {
	return n.barring.change(ctx, barredList{c}, n.Now(), change)
}

// barredStore is where the list is kept, and what goes by it.
type barredStore interface {
	read(ctx context.Context) (kube.Document, error)
	write(ctx context.Context, doc kube.Document) (kube.Document, error)
	enforce(ctx context.Context, names []string) error
	enforced(ctx context.Context, names []string) (bool, error)
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

// change makes a change of the list, and answers when the API server goes by
// it. A change that reports false is none, wherever it is made.
func (b *barring) change(ctx context.Context, list barredStore, now time.Time, change func(map[string][]byte) bool) error {
	doc, err := list.read(ctx)
	if err != nil {
		return err
	}
	if !change(maps.Clone(doc.Data)) {
		return settled(ctx, list, doc)
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
// each time that this fails one of them is done, and the new list is gone by.
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
			return settled(ctx, list, doc)
		}
		maps.DeleteFunc(doc.Data, func(_ string, when []byte) bool {
			at, err := time.Parse(time.RFC3339, string(when))
			return err != nil || now.Sub(at) > barredFor
		})
		doc, err = list.write(ctx, doc)
		if kube.Conflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		return enforce(ctx, list, doc)
	}
}

// settled has the API server go by a list that nobody changes.
func settled(ctx context.Context, list barredStore, doc kube.Document) error {
	if is, err := list.enforced(ctx, slices.Sorted(maps.Keys(doc.Data))); is || err != nil {
		return err
	}
	return enforce(ctx, list, doc)
}

// enforce has the API server go by the list, until that is the newest.
func enforce(ctx context.Context, list barredStore, doc kube.Document) error {
	for {
		if err := list.enforce(ctx, slices.Sorted(maps.Keys(doc.Data))); err != nil {
			return err
		}
		now, err := list.read(ctx)
		if err != nil || now.Version == doc.Version {
			return err
		}
		doc = now
	}
}

// barredList is the list in a cluster.
type barredList struct{ client *kube.Client }

func (l barredList) read(ctx context.Context) (kube.Document, error) {
	doc, err := l.client.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, barredName)
	if kube.NotFound(err) {
		doc, err = kube.Document{Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: barredName}, nil
	}
	if doc.Data == nil {
		doc.Data = map[string][]byte{}
	}
	return doc, err
}

func (l barredList) write(ctx context.Context, doc kube.Document) (kube.Document, error) {
	return l.client.WriteDocument(ctx, doc)
}

func (l barredList) enforce(ctx context.Context, names []string) error {
	objects, err := barredPolicy(names)
	if err != nil {
		return err
	}
	_, err = l.client.Apply(ctx, kube.ApplyRequest{Inventory: "mk-" + barredName, Objects: objects, Prune: true})
	return err
}

func (l barredList) enforced(ctx context.Context, names []string) (bool, error) {
	want, err := barredPolicy(names)
	if err != nil {
		return false, err
	}
	of := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"}
	_, err = l.client.Object(ctx, of, "mk-"+barredName) // it comes last, and goes last
	if err != nil || len(want) == 0 {
		return kube.NotFound(err) && len(want) == 0, ignoreNotFound(err)
	}
	have, err := l.client.Object(ctx, policies(), "mk-"+barredName)
	return err == nil && expressionOf(have) == expressionOf(want[0].Unstructured), ignoreNotFound(err)
}

func ignoreNotFound(err error) error {
	if kube.NotFound(err) {
		return nil
	}
	return err
}

// expressionOf is what a policy with one validation asks.
func expressionOf(policy *unstructured.Unstructured) string {
	all, _, _ := unstructured.NestedSlice(policy.Object, "spec", "validations")
	for _, v := range all {
		if m, ok := v.(map[string]any); ok {
			s, _ := m["expression"].(string)
			return s
		}
	}
	return ""
}

// barredPolicy refuses the names to kubelets. Whoever runs the cluster may make
// a node of any name.
func barredPolicy(names []string) ([]kube.Object, error) {
	if len(names) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, fmt.Errorf("write the names of removed nodes: %w", err)
	}
	expression, err := json.Marshal("!(object.metadata.name in " + string(list) + ")")
	if err != nil {
		return nil, fmt.Errorf("write the names of removed nodes: %w", err)
	}
	return kube.ParseManifests(fmt.Appendf(nil, barredManifest, expression), barredName)
}

const barredManifest = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: mk-removed-nodes
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE]
        resources: [nodes]
  matchConditions:
    - name: asked-by-a-kubelet
      expression: request.userInfo.username.startsWith("system:node:")
  validations:
    - expression: %s
      message: the node was removed from the cluster; it comes back by mk join
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: mk-removed-nodes
spec:
  policyName: mk-removed-nodes
  validationActions: [Deny]
`
