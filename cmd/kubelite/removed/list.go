package removed

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"mk8s.io/mk/core/revoked"
)

// list is what the API server has of the list, no object where nobody was ever removed, and what is under way for nodes.
type list struct {
	cache.Store
	first sync.Once
	read  chan struct{} // closed when it is known

	mu   sync.Mutex
	ends map[string]map[*context.CancelFunc]struct{} // by the node's name
}

func newList() *list {
	return &list{
		Store: cache.NewStore(cache.MetaNamespaceKeyFunc), read: make(chan struct{}), ends: map[string]map[*context.CancelFunc]struct{}{},
	}
}

// Replace takes over what was read.
func (l *list) Replace(objects []any, version string) error {
	err := l.Store.Replace(objects, version)
	if err == nil {
		l.first.Do(func() { close(l.read) })
	}
	l.end()
	return err
}

// Add takes over a list that was made.
func (l *list) Add(object any) error {
	err := l.Store.Add(object)
	l.end()
	return err
}

// Update takes over a change of the list.
func (l *list) Update(object any) error {
	err := l.Store.Update(object)
	l.end()
	return err
}

// holds reports whether a name is on the list; not before it is known.
func (l *list) holds(name string) bool {
	found, _, _ := l.GetByKey(revoked.Namespace + "/" + revoked.Name) // in memory: it does not fail
	names, is := found.(*corev1.ConfigMap)
	if !is {
		return false
	}
	_, text := names.Data[name]
	_, bytes := names.BinaryData[name]
	return text || bytes
}

// underWay is a context of a request of a node, which ends when the node is removed. It outlasts the handler, as watches do.
func (l *list) underWay(ctx context.Context, name string) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends[name] == nil {
		l.ends[name] = map[*context.CancelFunc]struct{}{}
	}
	l.ends[name][&cancel] = struct{}{}
	context.AfterFunc(ctx, func() { l.over(name, &cancel) })
	if l.holds(name) { // since it was let in
		cancel()
	}
	return ctx
}

func (l *list) over(name string, cancel *context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ends[name], cancel)
	if len(l.ends[name]) == 0 {
		delete(l.ends, name)
	}
}

// end ends what is under way for those who are on the list.
func (l *list) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, requests := range l.ends {
		if !l.holds(name) {
			continue
		}
		for cancel := range requests {
			(*cancel)() // over waits for the lock
		}
	}
}
