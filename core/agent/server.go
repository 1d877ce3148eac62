package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/revoked"
	"mk8s.io/mk/core/timer"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// maxBody is how much is read of a request before anyone knows who asks.
	maxBody       = 64 << 10
	headerLimit   = 5 * time.Second
	readLimit     = 30 * time.Second
	requestLimit  = 3 * time.Minute
	shutdownLimit = 5 * time.Second
	// nodeRetry is how soon a node that was not there is looked for.
	nodeRetry = 500 * time.Millisecond
)

// serve answers other nodes until ctx ends.
func (o Options) serve(ctx context.Context) {
	for {
		err := o.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, operation.ErrNoNode) { // a start or a join is under way
			if !timer.Wait(ctx, nodeRetry) {
				return
			}
			continue
		}
		if err == nil { // it listens elsewhere from now on
			continue
		}
		o.Log.Error("does not listen for other nodes, tried again", "error", err.Error(), "in", requestRetry.String())
		if !timer.Wait(ctx, requestRetry) {
			return
		}
	}
}

// listen ends without an error when the agent is to listen elsewhere.
func (o Options) listen(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	w := &warm{open: o.Open, now: o.Now}
	defer w.close()
	var bind string
	var keys *pairs
	err := w.with(func(n *operation.Node) error {
		if n.Record == nil || n.Record.ClusterID == "" || n.Record.Stopped {
			return operation.ErrNoNode
		}
		if err := n.Journal.SettleServed(); err != nil {
			return err
		}
		keys = &pairs{cert: n.Root.Path, role: string(n.Record.Role)}
		var err error
		bind, err = n.AgentBind()
		return err
	})
	if err != nil {
		return err
	}
	moved := o.moved(ctx, w, bind)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", bind)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", bind, err)
	}
	go o.tellBind(ctx)
	s := &server{wish: o.wish, node: w, log: o.Log, trust: keys, nudge: o.nudge, images: newImages(o.Now), queue: newQueue(), logs: newLogs(ctx, o.Now)}
	h := bounded(newLimiter(o.Now).limited(s.routes()), func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return keys.server() })
	h.ErrorLog = o.Log.StandardLogger(nil)
	h.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	ended := make(chan error, 1)
	go func() { ended <- h.ServeTLS(l, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve other nodes: %w", err)
	case <-moved.Done():
	}
	end() // whoever follows logs
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	if err := h.Shutdown(stop); err != nil { // somebody still asks
		_ = h.Close()
	}
	_ = l.Close() // it may not be served yet
	return nil
}

// bounded is a server that waits for nobody for ever: a header has headerLimit
// and 16 KiB, a request readLimit, unless its route says otherwise.
func bounded(h http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerLimit, ReadTimeout: readLimit, WriteTimeout: requestLimit + readLimit,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, GetCertificate: certificate},
	}
}

// server answers requests of other nodes.
type server struct {
	wish   func()
	node   *warm
	log    logger
	trust  *pairs
	images *images
	queue  *queue
	logs   *logs
	nudge  func()
}

// logger is what the server needs of a log.
type logger interface {
	Error(msg string, args ...any)
}

// routes are the core's own; what is below StrategyPath is the clustering
// plugin's.
func (s *server) routes() http.Handler {
	mux, queued := http.NewServeMux(), s.queue.queued
	mux.Handle("POST "+peer.LookPath, handle(s, func(n membership.Node, ctx context.Context, who membership.Caller, in peer.Look) (any, error) {
		if err := n.MayAsk(ctx, who); err != nil {
			return nil, err
		}
		return n.Show(in.What, in.Words)
	}))
	mux.Handle("POST "+peer.NudgePath, handle(s, done(func(n membership.Node, ctx context.Context, who membership.Caller, _ peer.Nudge) error {
		if err := n.MayAsk(ctx, who); err != nil {
			return err
		}
		s.wish()
		return nil
	})))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "OK"})
	})
	mux.Handle("POST "+peer.CheckPath, queued(handle(s, membership.Node.CheckJoin)))
	mux.Handle("POST "+peer.BeginPath, queued(handle(s, membership.Node.BeginJoin)))
	mux.Handle("POST "+peer.SecretsPath, handle(s, membership.Node.JoinSecrets))
	mux.Handle("POST "+peer.SignPath, queued(handle(s, membership.Node.SignFor)))
	mux.Handle("POST "+peer.RenewPath, queued(handle(s, membership.Node.RenewFor)))
	mux.Handle("POST "+peer.CommitPath, queued(handle(s, done(membership.Node.CommitJoin))))
	mux.Handle("POST "+peer.ReleasePath, queued(handle(s, membership.Node.ReleaseJoin)))
	mux.Handle("POST "+peer.LeavePath, handle(s, done(membership.Node.LetGo)))
	mux.Handle("POST "+peer.DrainPath, handle(s, done(membership.Node.LetGoOfPods)))
	mux.Handle("POST "+peer.IdentityPath, handle(s, s.identity))
	mux.Handle("POST "+peer.SavePath, handle(s, done(membership.Node.SaveFor)))
	mux.Handle("POST "+peer.RemovedPath, handle(s, done(s.removed)))
	mux.HandleFunc(peer.StrategyPath+"/", s.strategy)
	mux.HandleFunc("GET "+peer.PluginPath+"/{digest}", s.plugin)
	mux.HandleFunc("POST "+peer.ImagesPath, s.importImages)
	mux.HandleFunc("POST "+peer.LogsPath, s.showLogs)
	mux.HandleFunc("/health", nothing)
	s.guests().routes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, peer.Problem{Error: peer.ProblemText{Reason: "NOT_FOUND", Message: "there is no such route"}})
	})
	return mux
}

// done is what has no answer but that it was done.
func done[In any](do func(membership.Node, context.Context, membership.Caller, In) error) func(membership.Node, context.Context, membership.Caller, In) (struct{}, error) {
	return func(n membership.Node, ctx context.Context, who membership.Caller, in In) (struct{}, error) {
		return struct{}{}, do(n, ctx, who, in)
	}
}

// handle decodes a request, asks the node, and answers.
func handle[In, Out any](s *server, do func(membership.Node, context.Context, membership.Caller, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = json.Unmarshal(data, &in)
		}
		if err != nil {
			unreadable(w)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
		defer cancel()
		var out Out
		err = s.node.with(func(n *operation.Node) error {
			var err error
			out, err = do(membership.Of(n), ctx, s.caller(r), in)
			return err
		})
		if err != nil {
			s.problem(w, r, err)
			return
		}
		reply(w, http.StatusOK, out)
	})
}

func unreadable(w http.ResponseWriter) {
	reply(w, http.StatusBadRequest, peer.Problem{Error: peer.ProblemText{Reason: plugin.BadArgument, Message: "the request cannot be read"}})
}

// strategy hands a request to the clustering plugin.
func (s *server) strategy(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		reply(w, http.StatusRequestEntityTooLarge, peer.Problem{Error: peer.ProblemText{Reason: plugin.BadArgument, Message: "the request is too large"}})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	var answer *peer.Answer
	err = s.node.with(func(n *operation.Node) error {
		var err error
		answer, err = membership.Of(n).ServeStrategy(ctx, s.caller(r), r.Header.Get(peer.OperationHeader), peer.Request{
			Method: r.Method, Path: strings.TrimPrefix(r.URL.Path, peer.StrategyPath), Body: body,
		})
		return err
	})
	if err != nil {
		s.problem(w, r, err)
		return
	}
	for k, v := range answer.Headers {
		w.Header().Set(k, v)
	}
	if answer.Status < 200 || answer.Status > 599 {
		answer.Status = http.StatusOK
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body)
}

// plugin answers a plugin's folder to a joiner.
func (s *server) plugin(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	err := s.node.with(func(n *operation.Node) error {
		m := membership.Of(n)
		if err := m.Known(ctx, s.caller(r), r.Header.Get(peer.OperationHeader)); err != nil {
			return err
		}
		return m.PluginArchive(r.PathValue("digest"), w)
	})
	if err != nil {
		s.problem(w, r, err)
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// problem answers an error: with its reason where it has one, else without
// what only this node's log should say.
func (s *server) problem(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Error("request not served", "path", r.URL.Path, "from", r.RemoteAddr, "error", err.Error())
	e, ok := errors.AsType[*plugin.Error](err)
	if !ok && (kube.Silent(err) || datastore.Silent(err)) {
		w.Header().Set("Retry-After", "1")
		reply(w, http.StatusServiceUnavailable, peer.Problem{Error: peer.ProblemText{Reason: peer.NotNow,
			Message: "the API server or the datastore of the other node does not answer now", Next: "on that node: mk status"}})
		return
	}
	if !ok {
		reply(w, http.StatusInternalServerError, peer.Problem{Error: peer.ProblemText{Reason: plugin.Internal,
			Message: "the other node could not do it; its log says why: mk logs mk"}})
		return
	}
	status := http.StatusConflict
	switch e.Reason {
	case plugin.BadArgument:
		status = http.StatusBadRequest
	case plugin.TokenUnknown, membership.NotAllowed, membership.NotPermitted:
		status = http.StatusForbidden
	}
	reply(w, status, peer.Problem{Error: peer.ProblemText{Reason: e.Reason, Message: e.Message, Next: e.Next}})
}

// caller says who asks: what TLS proves, and nothing else.
func (s *server) caller(r *http.Request) membership.Caller {
	who := membership.Caller{Host: r.Host}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		who.Address = a.Addr().Unmap()
	}
	if l, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if a, err := netip.ParseAddrPort(l.String()); err == nil {
			who.Local = a.Addr().Unmap()
		}
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return who
	}
	leaf := r.TLS.PeerCertificates[0]
	who.Key = peer.Fingerprint(leaf)
	who.Cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	if name, ok := strings.CutPrefix(leaf.Subject.CommonName, revoked.AgentUser); ok && s.trust.signed(r.TLS.PeerCertificates) {
		who.Member = name
	}
	return who
}

// pairs reads the agent's certificate and whom it trusts, anew when they were
// switched.
type pairs struct {
	cert func(...string) string
	role string

	mu      sync.Mutex
	from    string // the generation that was read
	pair    *tls.Certificate
	clients *x509.CertPool
}

func (p *pairs) read() error {
	generation, err := os.Readlink(p.cert("certs"))
	if err != nil {
		return fmt.Errorf("read the agent's certificate: %w", err)
	}
	if generation == p.from {
		return nil
	}
	name := "server"
	if p.role == plugin.RoleWorker {
		name = "kubelet"
	}
	pair, err := tls.LoadX509KeyPair(p.cert("certs", name+".crt"), p.cert("certs", name+".key"))
	if err != nil {
		return fmt.Errorf("read the agent's certificate: %w", err)
	}
	bundle, err := os.ReadFile(p.cert("certs", "client-ca.crt"))
	if err != nil {
		return fmt.Errorf("read whom the agent trusts: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	p.from, p.pair, p.clients = generation, &pair, pool
	return nil
}

func (p *pairs) server() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.read(); err != nil && p.pair == nil {
		return nil, err
	}
	return p.pair, nil
}

// signed tells whether a client's certificate is of the cluster's authority.
func (p *pairs) signed(chain []*x509.Certificate) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.read(); err != nil && p.clients == nil {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: p.clients, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

// warm keeps a node, with the plugins that were asked, open for a minute after
// the last request: the next one of a join does not start them again.
type warm struct {
	open func() (*operation.Node, error)
	now  func() time.Time

	mu     sync.Mutex
	node   *operation.Node
	users  int
	opened time.Time
	timer  *time.Timer
}

const keepWarm = time.Minute

func (w *warm) with(do func(*operation.Node) error) error {
	n, err := w.take()
	if err != nil {
		return err
	}
	defer w.give()
	return do(n)
}

func (w *warm) take() (*operation.Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.node != nil && w.users == 0 && w.now().Sub(w.opened) > keepWarm {
		// What the node's files say may have changed.
		_ = w.node.Close()
		w.node = nil
	}
	if w.node == nil {
		n, err := w.open()
		if err != nil {
			return nil, err
		}
		w.node, w.opened = n, w.now()
	}
	w.users++
	return w.node, nil
}

func (w *warm) give() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users--
	if w.users == 0 {
		w.timer = time.AfterFunc(keepWarm, w.close)
	}
}

func (w *warm) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users == 0 && w.node != nil {
		_ = w.node.Close()
		w.node = nil
	}
}
