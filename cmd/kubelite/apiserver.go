package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
	_ "time/tzdata" // time zones of CronJobs, on hosts that have none

	"k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"mk8s.io/mk/cmd/kubelite/await"
	"mk8s.io/mk/cmd/kubelite/removed"
)

// apiServer is the API server; awaitReady may be called at any time, run once.
type apiServer struct {
	opts  *options.ServerRunOptions
	flags *cliflag.NamedFlagSets
	ready chan struct{}
	// others are the checks of /readyz for the components that start after it.
	others []*startCheck
}

func newAPIServer() *apiServer {
	s := &apiServer{opts: options.NewServerRunOptions(), ready: make(chan struct{})}
	sections := s.opts.Flags()
	s.flags = &sections
	s.opts.Flagz = flagz.NamedFlagSetsReader{FlagSets: sections}
	return s
}

// run serves until ctx ends and then drains. Before it was ready it cannot be stopped: the hooks of its start take the end
// of their context for a failure and end the process. It is left behind then.
func (s *apiServer) run(ctx context.Context) error {
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		defer stop()
		done <- s.serve(own)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case <-s.ready:
		stop()
		return <-done
	default:
		return nil
	}
}

// serve is upstream's Run with a context of ours, and with its loopback client used to see when it is ready.
func (s *apiServer) serve(ctx context.Context) error {
	completedOptions, err := s.opts.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completedOptions.Validate(); len(errs) != 0 {
		return errors.NewAggregate(errs)
	}
	config, err := app.NewConfig(completedOptions)
	if err != nil {
		return err
	}
	gone := removed.Before(config.KubeAPIs.ControlPlane.Generic.Authorization.Authorizer, s.ready)
	for _, part := range []*genericapiserver.AuthorizationInfo{
		&config.Aggregator.GenericConfig.Authorization, &config.KubeAPIs.ControlPlane.Generic.Authorization, &config.ApiExtensions.GenericConfig.Authorization,
	} {
		part.Authorizer = gone
	}
	chain := config.Aggregator.GenericConfig.BuildHandlerChainFunc
	config.Aggregator.GenericConfig.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return chain(gone.Ends(handler), c)
	}
	completed, err := config.Complete()
	if err != nil {
		return err
	}
	// All that comes before needs no datastore; only the checks of its health connect to it, again and again.
	await.Listener(ctx, s.opts.Etcd.StorageConfig.Transport.ServerList...)
	server, err := app.CreateServerChain(completed)
	if err != nil {
		return err
	}
	// Requests in flight are waited for apart from this. What this would wait for, a minute, is the connections, which the
	// watches of other processes keep open.
	server.GenericAPIServer.ShutdownTimeout = min(server.GenericAPIServer.ShutdownTimeout, 2*time.Second)
	// It is ready when it knows who was removed.
	err = server.GenericAPIServer.AddPostStartHook("mk-removed-nodes", func(hook genericapiserver.PostStartHookContext) error {
		return gone.Follow(hook, hook.LoopbackClientConfig)
	})
	if err != nil {
		return err
	}
	for _, check := range s.others {
		if err := server.GenericAPIServer.AddReadyzChecks(check); err != nil {
			return err
		}
	}
	prepared, err := server.PrepareRun()
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(server.GenericAPIServer.LoopbackClientConfig)
	if err != nil {
		return fmt.Errorf("make the client that waits for readiness: %w", err)
	}
	go s.watchReady(ctx, client, server.GenericAPIServer.LoopbackClientConfig.Host)
	return prepared.Run(ctx)
}

// startCheck is a check of /readyz that fails until a component of this process has taken its options: one that
// does not start ends the process again and again, and in between nobody must take the control plane for ready.
type startCheck struct {
	component string
	started   atomic.Bool
}

// Name implements healthz.HealthChecker.
func (c *startCheck) Name() string { return c.component + "-started" }

// Check implements healthz.HealthChecker.
func (c *startCheck) Check(*http.Request) error {
	if !c.started.Load() {
		return fmt.Errorf("%s has not started", c.component)
	}
	return nil
}

// watchReady closes ready when /readyz has answered with 200 for the first time, but for the components that wait for that.
func (s *apiServer) watchReady(ctx context.Context, client *http.Client, host string) {
	query := url.Values{}
	for _, check := range s.others {
		query.Add("exclude", check.Name())
	}
	_ = wait.PollUntilContextCancel(ctx, 25*time.Millisecond, false, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, host+"/readyz?"+query.Encode(), http.NoBody)
		if err != nil {
			return false, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return false, nil // not listening yet
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			close(s.ready)
		}
		return resp.StatusCode == http.StatusOK, nil
	})
}

// awaitReady waits until the API server was ready once, and tells whether that came before ctx ended.
func (s *apiServer) awaitReady(ctx context.Context) bool {
	select {
	case <-s.ready:
		return true
	case <-ctx.Done():
		return false
	}
}
