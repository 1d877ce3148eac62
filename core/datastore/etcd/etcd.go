// Package etcd asks one member of etcd the few things that mk asks. It speaks etcd's public gRPC API with messages of its
// own: those of etcd's client prepare themselves before main, at each start of mk, for ten times what mk needs of them.
//
// Guaranteed: every call ends with its context, and is made once. What etcd refuses is an error of rpctypes, as etcd's own
// client has it. Not guaranteed: that another member is tried; who asks does that.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	keepaliveEvery = 10 * time.Second
	keepalivePause = 4 * time.Second
	// redialMost is how long a member that was away may be back before it is
	// found: gRPC would take two minutes of it.
	redialMost = time.Second
)

// Conn is a connection to one member. It may be used by several goroutines.
type Conn struct{ conn *grpc.ClientConn }

// Dial prepares a connection to http(s)://host:port; it is made with the first call.
func Dial(endpoint string, config *tls.Config) (*Conn, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if u.Host == "" {
		return nil, fmt.Errorf("%q is not https://host:port", endpoint)
	}
	secure := insecure.NewCredentials()
	if u.Scheme == "https" {
		secure = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(secure),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialMost / 10, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMost},
			MinConnectTimeout: keepalivePause,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepalivePause}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		return nil, err
	}
	return &Conn{conn}, nil
}

// Close ends the connection, and calls under way with it.
func (c *Conn) Close() error { return c.conn.Close() }

func (c *Conn) call(ctx context.Context, method string, request message) (message, error) {
	var answer message
	err := c.conn.Invoke(ctx, "/etcdserverpb."+method, request, &answer)
	return answer, refusal(ctx, err)
}

// refusal is an error as etcd's own client has it.
func refusal(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	err = rpctypes.Error(err)
	if _, known := errors.AsType[rpctypes.EtcdError](err); !known && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Silent is true for an error that says that the member does not answer, or has no leader.
func Silent(err error) bool {
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// Members are the members as this one knows them or, agreed, as a majority does.
func (c *Conn) Members(ctx context.Context, agreed bool) (*Roll, error) {
	if agreed {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	answer, err := c.call(ctx, "Cluster/MemberList", message{}.flag(1, agreed))
	if err != nil {
		return nil, err
	}
	return parseRoll(answer)
}

// AddLearner makes the member of a peer URL one that does not vote.
func (c *Conn) AddLearner(ctx context.Context, peer string) error {
	_, err := c.call(ctx, "Cluster/MemberAdd", message{}.text(1, peer).flag(2, true))
	return err
}

// Promote lets a learner vote.
func (c *Conn) Promote(ctx context.Context, id uint64) error {
	_, err := c.call(ctx, "Cluster/MemberPromote", message{}.number(1, id))
	return err
}

// Remove removes a member.
func (c *Conn) Remove(ctx context.Context, id uint64) error {
	_, err := c.call(ctx, "Cluster/MemberRemove", message{}.number(1, id))
	return err
}

// MoveLeader has this member, which leads, hand over to another.
func (c *Conn) MoveLeader(ctx context.Context, to uint64) error {
	_, err := c.call(ctx, "Maintenance/MoveLeader", message{}.number(1, to))
	return err
}

// Status is what this member says of itself.
func (c *Conn) Status(ctx context.Context) (*Status, error) {
	answer, err := c.call(ctx, "Maintenance/Status", message{})
	if err != nil {
		return nil, err
	}
	return parseStatus(answer)
}

// Get reads a key as this member knows it, with or without a quorum.
func (c *Conn) Get(ctx context.Context, key string) (value []byte, found bool, err error) {
	answer, err := c.call(ctx, "KV/Range", message{}.text(1, key).flag(7, true))
	if err != nil {
		return nil, false, err
	}
	return parseValue(answer)
}

// Snapshot writes all that this member holds to w, with etcd's checksum behind it.
func (c *Conn) Snapshot(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.Maintenance/Snapshot")
	if err == nil {
		err = stream.SendMsg(message{})
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		return refusal(ctx, err)
	}
	for {
		var answer message
		if err := stream.RecvMsg(&answer); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return refusal(ctx, err)
		}
		blob, err := parseBlob(answer)
		if err == nil {
			_, err = w.Write(blob)
		}
		if err != nil {
			return err
		}
	}
}

// Keys are the keys that begin with a prefix, which ends with a slash, as a majority knows them.
func (c *Conn) Keys(ctx context.Context, prefix string) ([]string, error) {
	// 0 follows a slash.
	answer, err := c.call(ctx, "KV/Range", message{}.text(1, prefix).text(2, strings.TrimSuffix(prefix, "/")+"0").flag(8, true))
	if err != nil {
		return nil, err
	}
	return parseKeys(answer)
}

// Delete deletes a key; one that is not there is no error.
func (c *Conn) Delete(ctx context.Context, key string) error {
	_, err := c.call(ctx, "KV/DeleteRange", message{}.text(1, key))
	return err
}
