package hostrpc_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/hostrpc"
	"mk8s.io/mk/sdk/peercred"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

func serve(t *testing.T, allow func(uint32) bool) *hostrpc.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "h")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(peercred.New(allow)))
	hostrpc.Register(s, fake{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	c, err := hostrpc.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.Close()
		s.Stop()
		if err := errors.Join(err, <-served); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestAHostAcrossTheSocket(t *testing.T) {
	t.Parallel()
	c, ctx := serve(t, peercred.RootOrSelf), t.Context()
	i, err := c.Issue(ctx, tokens.IssueRequest{Purpose: tokens.Join, Lifetime: time.Hour})
	if err != nil || i.Token != "join 1h0m0s" {
		t.Fatal(i, err)
	}
	if _, err := c.Reserve(ctx, tokens.ReserveRequest{Purpose: tokens.Join}); !errors.Is(err, plugin.TokenReserved) {
		t.Fatal(err)
	}
	if err := errors.Join(c.Commit(ctx, plugin.Call{OperationID: "x"}, "r"), c.Release(ctx, plugin.Call{}, "r"), c.Progress(ctx, "x", "y")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sign(ctx, certs.SignRequest{Requests: make([]certs.CertificateRequest, 1)}); err == nil || !strings.Contains(err.Error(), "0 results for 1") {
		t.Fatal(err)
	}
	if a, err := c.Authorities(ctx, []string{"kubernetes"}); err != nil || len(a) != 1 || a[0].Name != "kubernetes" {
		t.Fatal(a, err)
	}
	if p, err := c.Peer(ctx, host.PeerRequest{Method: "GET", Body: []byte("b")}); err != nil || p.Status != 200 || string(p.Body) != "GET b" {
		t.Fatal(p, err)
	}
	if _, err := c.Peer(ctx, host.PeerRequest{Body: make([]byte, 64<<10+1)}); !errors.Is(err, plugin.BadArgument) {
		t.Fatal(err)
	}
	if f, err := c.Read(ctx, "node.json"); err != nil || string(f.Content) != "node.json" {
		t.Fatal(f, err)
	}
}

func TestAStrangerIsCutOff(t *testing.T) {
	t.Parallel()
	c := serve(t, func(uint32) bool { return false })
	if _, err := c.Read(t.Context(), "x"); !errors.Is(err, plugin.Unavailable) {
		t.Fatal(err)
	}
}

type fake struct{}

func (fake) Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return tokens.Issued{}, errors.New("no peer")
	}
	if _, ok := p.AuthInfo.(peercred.Info); !ok {
		return tokens.Issued{}, errors.New("no user id")
	}
	return tokens.Issued{Token: string(r.Purpose) + " " + r.Lifetime.String()}, nil
}

func (fake) Reserve(context.Context, tokens.ReserveRequest) (tokens.Reservation, error) {
	return tokens.Reservation{}, plugin.Errorf(plugin.TokenReserved, "held")
}

func (fake) Commit(_ context.Context, c plugin.Call, _ string) error {
	if c.OperationID != "x" {
		return errors.New("no operation")
	}
	return nil
}
func (fake) Release(context.Context, plugin.Call, string) error { return nil }

func (fake) Sign(context.Context, certs.SignRequest) ([]certs.SignResult, error) { return nil, nil }

func (fake) Authorities(_ context.Context, names []string) ([]certs.Authority, error) {
	return []certs.Authority{{Name: names[0]}}, nil
}

func (fake) Peer(_ context.Context, r host.PeerRequest) (host.PeerResponse, error) {
	return host.PeerResponse{Status: 200, Body: []byte(r.Method + " " + string(r.Body))}, nil
}

func (fake) Read(_ context.Context, path string) (host.File, error) {
	return host.File{Content: []byte(path)}, nil
}

func (fake) Progress(context.Context, string, string) error { return nil }
