package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/microk8s"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/plugin"
)

// host is what the node does for clients of MicroK8s.
type host interface {
	GuestJoin(ctx context.Context, who membership.Caller, j microk8s.Join) (*microk8s.Joined, error)
	GuestSign(ctx context.Context, who membership.Caller, s microk8s.Sign) (*microk8s.Signed, error)
	Configure(ctx context.Context, who membership.Caller, c microk8s.Configure) (map[string]string, error)
	Calls(ctx context.Context, who membership.Caller, token string) error
	ImportImages(ctx context.Context, archive io.Reader, sum string) error
}

// guests serves MicroK8s' routes.
type guests struct {
	with   func(func(host) error) error
	caller func(*http.Request) membership.Caller
	log    logger
	images *images
	queue  *queue
}

func (s *server) guests() *guests {
	return &guests{
		with: func(do func(host) error) error {
			return s.node.with(func(n *operation.Node) error { return do(membership.Of(n)) })
		},
		caller: s.caller,
		log:    s.log,
		images: s.images,
		queue:  s.queue,
	}
}

// routes adds them. A known path with another method is answered as MicroK8s
// does: 404, and nothing.
func (g *guests) routes(mux *http.ServeMux) {
	for path, h := range map[string]http.Handler{
		microk8s.JoinV1Path:    guest(g, microk8s.ParseJoin, refuseV1),
		microk8s.JoinPath:      guest(g, microk8s.ParseJoin, host.GuestJoin),
		microk8s.SignPath:      guest(g, microk8s.ParseSign, host.GuestSign),
		microk8s.ConfigurePath: guest(g, microk8s.ParseConfigure, host.Configure),
		microk8s.ImportPath:    http.HandlerFunc(g.importImages),
	} {
		mux.Handle("POST "+path, h)
		mux.HandleFunc(path, nothing)
	}
	mux.HandleFunc("/cluster/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, map[string]string{"error": "Not found"})
	})
}

func nothing(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }

// refuseV1 answers the join of clusters whose nodes share an etcd with flannel:
// its clients get a certificate for that etcd, and so all of the cluster.
func refuseV1(host, context.Context, membership.Caller, microk8s.Join) (*microk8s.Joined, error) {
	return nil, &microk8s.Refusal{Status: microk8s.StatusNotHere,
		Message: "this cluster gives no node access to its datastore: microk8s enable ha-cluster on the joining node, then microk8s join with --worker"}
}

// guest reads a body, asks the node, and answers.
func guest[In, Out any](g *guests, parse func([]byte) (In, error), do func(host, context.Context, membership.Caller, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			reply(w, http.StatusBadRequest, map[string]string{"error": "The request cannot be read, or is too large"})
			return
		}
		in, err := parse(body)
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		if !g.queue.take(r.Context()) {
			g.refuse(w, r, &microk8s.Refusal{Status: microk8s.StatusFailed, Message: manyJoin})
			return
		}
		defer g.queue.give()
		ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
		defer cancel()
		var out Out
		err = g.with(func(n host) error {
			var err error
			out, err = do(n, ctx, g.caller(r), in)
			return err
		})
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		reply(w, http.StatusOK, out)
	})
}

// refuse answers an error as MicroK8s does; why stands in the log.
func (g *guests) refuse(w http.ResponseWriter, r *http.Request, err error) {
	g.log.Error("request of a MicroK8s client not served", "path", r.URL.Path, "from", r.RemoteAddr, "error", err.Error())
	refusal, ok := errors.AsType[*microk8s.Refusal](err)
	if ok {
		reply(w, refusal.Status, refusal.Body())
		return
	}
	refusal = &microk8s.Refusal{Status: microk8s.StatusFailed, Message: "it could not be done; the log of the node that was asked says why: mk logs mk"}
	// What a plugin could not do may name paths; a stranger may hear this.
	inside := []plugin.Reason{plugin.Internal, plugin.Unavailable, plugin.BadSettings}
	if e, ok := errors.AsType[*plugin.Error](err); ok && !slices.Contains(inside, e.Reason) {
		refusal.Message = e.Message
		if e.Next != "" {
			refusal.Message += " (" + e.Next + ")"
		}
	}
	reply(w, refusal.Status, refusal.Body())
}

// importImages hands an archive of a caller with a callback token on.
func (g *guests) importImages(w http.ResponseWriter, r *http.Request) {
	err := g.images.take(w, r,
		func(ctx context.Context) error {
			err := g.with(func(n host) error { return n.Calls(ctx, g.caller(r), r.Header.Get(microk8s.CallbackHeader)) })
			if refusal, ok := errors.AsType[*microk8s.Refusal](err); ok && refusal.Status == microk8s.StatusFailed {
				refusal.Status = http.StatusUnauthorized // on this route alone
			}
			return err
		},
		func(ctx context.Context, archive io.Reader) error {
			return g.with(func(n host) error { return n.ImportImages(ctx, archive, "") })
		})
	if errors.Is(err, membership.ErrNoArchive) {
		err = &microk8s.Refusal{Status: http.StatusBadRequest, Message: err.Error()}
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": "OK"})
}
