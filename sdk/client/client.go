// Package client speaks to a plugin: Go interfaces of the contracts over a
// gRPC connection. Answers are checked for what the contract allows, so that
// callers never see a half-formed one; whether they are wise is the caller's
// to judge. Errors keep their reason: errors.Is(err, plugin.TokenUsed) holds.
package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/internal/verbs"
	"mk8s.io/mk/sdk/internal/wire"
	"mk8s.io/mk/sdk/plugin"
	addonsv1 "mk8s.io/mk/sdk/proto/mk/addons/v1"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
	clusteringv1 "mk8s.io/mk/sdk/proto/mk/clustering/v1"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

// MaxMessage is how much one message may hold, in both directions.
const MaxMessage = 16 << 20

// Client hands out the interfaces of one running plugin. It is safe for
// concurrent use and owns nothing: whoever made the connection closes it.
type Client struct{ conn grpc.ClientConnInterface }

// New makes a client. The connection should carry BoundByVerb and
// RequireDeadline; DialOptions has both.
func New(conn grpc.ClientConnInterface) *Client { return &Client{conn: conn} }

// Plugin is what every plugin serves.
func (c *Client) Plugin() plugin.Plugin { return c.base() }

// Exporter moves state; asked only where the description says exportable.
func (c *Client) Exporter() plugin.Exporter { return c.base() }

// Certs speaks mk.certs.v1.
func (c *Client) Certs() certs.Plugin { return c.certs() }

// CrossSigner is asked only with the capability cross-sign.
func (c *Client) CrossSigner() certs.CrossSigner { return c.certs() }

// Revoker is asked only with the capability revoke.
func (c *Client) Revoker() certs.Revoker { return c.certs() }

// Tokens speaks mk.tokens.v1.
func (c *Client) Tokens() tokens.Plugin {
	return &tokensClient{base: c.base(), rpc: tokensv1.NewTokensServiceClient(c.conn)}
}

// Clustering speaks mk.clustering.v1.
func (c *Client) Clustering() clustering.Plugin { return c.clustering() }

// Approver is asked only with the capability approval.
func (c *Client) Approver() clustering.Approver { return c.clustering() }

// Addons speaks mk.addons.v1.
func (c *Client) Addons() addons.Plugin {
	return &addonsClient{base: c.base(), rpc: addonsv1.NewAddonsServiceClient(c.conn)}
}

func (c *Client) base() base { return base{rpc: pluginv1.NewPluginServiceClient(c.conn)} }

func (c *Client) certs() *certsClient {
	return &certsClient{base: c.base(), rpc: certsv1.NewCertsServiceClient(c.conn)}
}

func (c *Client) clustering() *clusteringClient {
	return &clusteringClient{base: c.base(), rpc: clusteringv1.NewClusteringServiceClient(c.conn)}
}

// Deadline is how long a question of the contracts may take, by its full gRPC
// method: /mk.certs.v1.CertsService/Sign.
func Deadline(method string) time.Duration { return verbs.Deadline(method) }

// Lost reports whether a call failed because the plugin's process went away.
func Lost(err error) bool { return wire.Lost(err) }

// ErrNoDeadline is returned for a call whose context has no deadline.
var ErrNoDeadline = errors.New("refusing a call without a deadline")

// RequireDeadline refuses calls of the contracts without a deadline.
func RequireDeadline(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok && verbs.Ours(method) {
		return fmt.Errorf("%s: %w", verbs.Name(method), ErrNoDeadline)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// BoundByVerb shortens every call of the contracts to what limit says for its
// method; nil means Deadline. An earlier deadline of the caller stays.
func BoundByVerb(limit func(method string) time.Duration) grpc.UnaryClientInterceptor {
	if limit == nil {
		limit = Deadline
	}
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if !verbs.Ours(method) {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		ctx, cancel := context.WithTimeout(ctx, limit(method))
		defer cancel()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// DialOptions are those that a connection to a plugin should have: messages
// bounded, every call bounded by its verb. limit may be nil.
func DialOptions(limit func(method string) time.Duration) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithStaticStreamWindowSize(wire.Window), grpc.WithStaticConnWindowSize(wire.Window),
		grpc.WithChainUnaryInterceptor(BoundByVerb(limit), RequireDeadline),
	}
}

// answered makes the error of a call the caller's.
func answered(err error) error { return wire.FromStatus(err) }

// decoded says that an answer broke the contract.
func decoded(verb string, err error) error {
	if err == nil {
		return nil
	}
	return plugin.Errorf(plugin.Internal, "answer to %s breaks the contract: %v", verb, err)
}

// answer decodes an Answer and refuses changes that no plugin may ask for.
func answer(verb string, m *pluginv1.Answer) (plugin.Answer, error) {
	a, err := wire.ToAnswer(m)
	if err == nil {
		err = check(a.Changes)
	}
	if err != nil {
		return plugin.Answer{}, decoded(verb, err)
	}
	return a, nil
}

func check(c changeset.ChangeSet) error {
	for i, o := range c.Operations {
		if _, ok := o.Action.(*changeset.ActivatePlugin); ok {
			return fmt.Errorf("operation %d: only the core activates plugins", i+1)
		}
	}
	return c.Validate()
}
