package datastore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"

	"mk8s.io/mk/core/datastore/etcd"
)

// Snapshot writes etcd's snapshot of one member to w: the first of the client's
// that answers, its own. It needs no quorum. The checksum behind it is judged
// by Tool.Verify.
func (c *Client) Snapshot(ctx context.Context, w io.Writer) error {
	endpoints := c.known()
	if len(endpoints) == 0 {
		return errors.New("save the datastore: no member's address is known")
	}
	e, err := c.at(endpoints[0])
	if err != nil {
		return err
	}
	if err := e.Snapshot(ctx, w); err != nil {
		return fmt.Errorf("save the datastore at %s: %w", endpoints[0], err)
	}
	return nil
}

// Tool works on the files of a datastore that does not run. It is a program of
// its own: etcd's server is not in mk.
type Tool struct {
	Program string // kubelite
}

// Held is what a datastore was found to hold when it was started.
type Held struct {
	Revision int64  `json:"revision"`
	Keys     int64  `json:"keys"`
	Hash     uint32 `json:"hash"`
	Size     int64  `json:"size"`
}

// Verify starts a snapshot on a socket in the scratch folder, and says what it
// holds.
func (t Tool) Verify(ctx context.Context, from, scratch string) (Held, error) {
	var h Held
	return h, t.run(ctx, &h, "verify", "--from="+from, "--scratch="+scratch)
}

// Rescue writes a snapshot of everything in the data folder of a member.
func (t Tool) Rescue(ctx context.Context, data, name, to, scratch string) (Held, error) {
	var h Held
	return h, t.run(ctx, &h, "rescue", "--from="+data, "--name="+name, "--to="+to, "--scratch="+scratch)
}

// Identity is what a datastore that is made anew is to be.
type Identity struct {
	Name  string
	Peer  string // https://host:port
	Token string // no other cluster ever had it
}

// leap is added to the revision of a datastore that is made anew: more than
// the old one can have gone on by. So nobody sees time go back.
const leap = 1_000_000_000

// Make makes the data folder of a datastore of one member from a snapshot. Old
// members and it are strangers; whoever watched reads anew.
func (t Tool) Make(ctx context.Context, from, to string, id Identity) error {
	return t.run(ctx, nil, "restore", "--from="+from, "--to="+to, "--name="+id.Name, "--peer="+id.Peer,
		"--token="+id.Token, "--bump="+strconv.Itoa(leap))
}

// Members are those that the data folder of a member knows.
func (t Tool) Members(ctx context.Context, data, scratch string) ([]Member, error) {
	var found []struct {
		Name    string   `json:"name"`
		Peers   []string `json:"peers"`
		Clients []string `json:"clients"`
		Learner bool     `json:"learner"`
	}
	if err := t.run(ctx, &found, "members", "--from="+data, "--scratch="+scratch); err != nil {
		return nil, err
	}
	var out []Member
	for _, f := range found {
		m := memberOf(etcd.Member{Name: f.Name, Learner: f.Learner, PeerURLs: f.Peers, ClientURLs: f.Clients})
		m.ID = "" // it was not said
		out = append(out, m)
	}
	return out, nil
}

// Settle has a member whose log leaves it alone go on without the vote of
// others. It is the one work that changes the files that it is given.
func (t Tool) Settle(ctx context.Context, data string) error {
	return t.run(ctx, nil, "settle", "--from="+data)
}

func (t Tool) run(ctx context.Context, out any, work string, options ...string) error {
	cmd := exec.CommandContext(ctx, t.Program, append([]string{"datastore", work}, options...)...)
	var answer, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &answer, &said
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			err = errors.New(text[max(0, len(text)-1000):])
		}
		return fmt.Errorf("%s the datastore: %w", work, errors.Join(err, ctx.Err()))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Bytes(), out); err != nil {
		return fmt.Errorf("%s the datastore: %w", work, err)
	}
	return nil
}
