package pluginhost

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"

	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// Questions are those that one plugin is being asked at this moment. They
// bound what it may ask the host: a callback belongs to a question that has
// not been answered. The zero value has none; it is safe for concurrent use.
type Questions struct {
	mu   sync.Mutex
	open map[string]int // by operation id; the empty one counts the others
}

// Any reports whether the plugin is asked anything.
func (q *Questions) Any() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.open) > 0
}

// Under reports whether the plugin is asked something under this operation id.
func (q *Questions) Under(operationID string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[operationID] > 0
}

// note is the interceptor that counts the questions of the contracts.
func (q *Questions) note(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !strings.HasPrefix(method, "/mk.") {
		return invoke(ctx, method, req, reply, cc, opts...) // go-plugin's own
	}
	var id string
	if m, ok := req.(interface{ GetCall() *pluginv1.Call }); ok {
		id = m.GetCall().GetOperationId()
	}
	q.add(id, 1)
	defer q.add(id, -1)
	return invoke(ctx, method, req, reply, cc, opts...)
}

func (q *Questions) add(id string, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = map[string]int{}
	}
	if q.open[id] += n; q.open[id] == 0 {
		delete(q.open, id)
	}
}
