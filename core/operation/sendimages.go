package operation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// MaxImages is how much one archive of images may hold.
	MaxImages = 64 << 30
	// sendsAtOnce bounds to how many nodes an archive goes at a time: they share
	// this node's network.
	sendsAtOnce = 4
	sendLimit   = 30 * time.Minute
)

// SendImages sends an archive of images to nodes, this one's included, which
// import it. It is read from the disk for each of them. The outcomes say what
// became of it on each; a node that does not take it is no error.
func (n *Node) SendImages(ctx context.Context, where Where, file string) ([]Outcome, error) {
	if err := n.checkFar(ctx, where); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the archive: %w", err)
	case size == 0 || size > MaxImages:
		return nil, plugin.Errorf(plugin.BadArgument, "%s has %d bytes: an archive of images has some, and no more than %d GiB", file, size, MaxImages>>30)
	}
	members, options, err := n.selected(ctx, where)
	if err != nil {
		return nil, err
	}
	var out []Outcome
	headers := map[string]string{peer.DigestHeader: hex.EncodeToString(hash.Sum(nil))}
	cluster.Each(ctx, members, cluster.AtOnce{Calls: sendsAtOnce, Limit: sendLimit}, func(ctx context.Context, m *cluster.Member) (struct{}, error) {
		c := peer.New(m.Agent(), options)
		defer c.Close()
		body := &sent{from: io.NewSectionReader(f, 0, size), size: size, told: func(percent int64) {
			n.detail(fmt.Sprintf("%s: %d %% of %d MB sent", m.Name, percent, size/1e6))
		}}
		return struct{}{}, c.Send(ctx, peer.ImagesPath, body, size, headers)
	}, func(m *cluster.Member, _ struct{}, err error) {
		o := Outcome{Node: m.Name, Done: err == nil}
		if err != nil {
			o.Error = oneLine(err.Error())
		}
		out = append(out, o)
		n.detail(fmt.Sprintf("%s: %s", m.Name, map[bool]string{true: "imported", false: "not imported"}[o.Done]))
	})
	slices.SortFunc(out, func(a, b Outcome) int { return strings.Compare(a.Node, b.Node) })
	return out, nil
}

// sent is an archive on its way, which tells of each quarter that is read.
type sent struct {
	from        io.Reader
	size, done  int64
	lastQuarter int64
	told        func(percent int64)
}

// Read reads on.
func (s *sent) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.done += int64(n)
	if quarter := s.done * 4 / s.size; quarter > s.lastQuarter {
		s.lastQuarter = quarter
		s.told(quarter * 25)
	}
	return n, err
}
