package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// importLimit bounds a whole import, chunkLimit each part of it that comes.
	importLimit = 30 * time.Minute
	chunkLimit  = 30 * time.Second
)

// images lets one archive at a time through: containerd unpacks one after the
// other anyhow, and many at once would fill the disk.
type images struct {
	now  func() time.Time
	turn chan struct{}
}

func newImages(now func() time.Time) *images { return &images{now: now, turn: make(chan struct{}, 1)} }

// take gives do the body of a request while it comes, for as long as it comes.
// Nothing of it is read, and nobody waits, before may has said who sends it.
func (i *images) take(w http.ResponseWriter, r *http.Request, may func(context.Context) error, do func(context.Context, io.Reader) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), importLimit)
	defer cancel()
	if err := may(ctx); err != nil {
		return err
	}
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(i.now().Add(importLimit + chunkLimit)); err != nil {
		return fmt.Errorf("take images: %w", err)
	}
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for another import: %w", ctx.Err())
	}
	return do(ctx, &chunks{from: r.Body, control: control, now: i.now})
}

// chunks is a body whose every part has its own time to come.
type chunks struct {
	from    io.Reader
	control *http.ResponseController
	now     func() time.Time
}

// Read waits for the next part. Nobody waits while this node is busy with one.
func (c *chunks) Read(p []byte) (int, error) {
	if err := c.control.SetReadDeadline(c.now().Add(chunkLimit)); err != nil {
		return 0, err
	}
	n, err := c.from.Read(p)
	if rest := c.control.SetReadDeadline(time.Time{}); err == nil {
		err = rest
	}
	return n, err
}

// importImages takes an archive of another control-plane node, which says what
// its SHA-256 is.
func (s *server) importImages(w http.ResponseWriter, r *http.Request) {
	sum := r.Header.Get(peer.DigestHeader)
	err := s.images.take(w, r,
		func(ctx context.Context) error {
			if err := s.node.with(func(n *operation.Node) error { return membership.Of(n).MayAsk(ctx, s.caller(r)) }); err != nil {
				return err
			}
			if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size || r.ContentLength > operation.MaxImages {
				return plugin.Errorf(plugin.BadArgument, "an archive comes with its SHA-256, and has no more than %d GiB", operation.MaxImages>>30)
			}
			return nil
		},
		func(ctx context.Context, archive io.Reader) error {
			return s.node.with(func(n *operation.Node) error { return membership.Of(n).ImportImages(ctx, archive, sum) })
		})
	if err != nil {
		s.problem(w, r, err)
		return
	}
	reply(w, http.StatusOK, struct{}{})
}
