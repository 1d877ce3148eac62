// Package offline works on the files of a datastore that does not run: it judges a snapshot by starting it, makes a
// datastore with a new identity from one, takes a snapshot out of the files of a member that lost the others, and has a
// member that the other one left go on.
//
// It guarantees that the files it is given stay as they are, but for Settle: it works on copies, in a scratch folder of
// the caller's, and nothing that it starts listens anywhere but on sockets in that folder. It removes no scratch folder.
package offline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// State is what a datastore holds.
type State struct {
	Revision int64  `json:"revision"`
	Keys     int64  `json:"keys"`
	Hash     uint32 `json:"hash"` // of all keys at this revision, as etcd's own HashKV
	Size     int64  `json:"size"`
}

// Restore says what becomes of a snapshot.
type Restore struct {
	From  string // the snapshot, with its checksum
	To    string // the data folder to make; it must not be there, or be empty
	Name  string // of the only member
	Peer  string // where peers will find it: https://host:port
	Token string // what the new cluster's identity is made of
	// Bump is added to the revision, and all before it counts as compacted: whoever watches reads anew.
	Bump uint64
}

// quiet keeps etcd's chatter away; what it cannot do comes back as an error or is said with level error.
func quiet() (*zap.Logger, error) {
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(zap.ErrorLevel)
	c.OutputPaths, c.ErrorOutputPaths = []string{"stderr"}, []string{"stderr"}
	return c.Build()
}

// Make makes a datastore of one member, with an identity of its own, from a snapshot.
func Make(r Restore) error {
	lg, err := quiet()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	err = snapshot.NewV3(lg).Restore(snapshot.RestoreConfig{
		SnapshotPath: r.From, OutputDataDir: r.To, Name: r.Name, PeerURLs: []string{r.Peer},
		InitialCluster: r.Name + "=" + r.Peer, InitialClusterToken: r.Token,
		RevisionBump: r.Bump, MarkCompacted: r.Bump > 0,
	})
	if err != nil {
		return fmt.Errorf("make a datastore from %s: %w", r.From, err)
	}
	return nil
}

// Verify checks a snapshot's checksum and structure, starts it on a socket in the scratch folder, and says what it holds.
func Verify(ctx context.Context, from, scratch string) (State, error) {
	lg, err := quiet()
	if err != nil {
		return State{}, fmt.Errorf("log: %w", err)
	}
	info, err := os.Stat(from)
	if err != nil {
		return State{}, err
	}
	// First of all: whoever opens a damaged database panics.
	if err := checksum(from, info.Size()); err != nil {
		return State{}, err
	}
	if _, err := snapshot.NewV3(lg).Status(from); err != nil {
		return State{}, fmt.Errorf("check %s: %w", from, err)
	}
	dir := filepath.Join(scratch, "verify")
	if err := Make(Restore{From: from, To: dir, Name: "verify", Peer: "http://127.0.0.1:2380", Token: "verify"}); err != nil {
		return State{}, err
	}
	var s State
	err = running(ctx, dir, "verify", false, func(e *embed.Etcd) error {
		s, err = stateOf(ctx, e)
		return err
	})
	s.Size = info.Size()
	return s, err
}

// checksum compares a snapshot with the digest that stands behind it.
func checksum(name string, size int64) (err error) {
	if size%512 != sha256.Size {
		return fmt.Errorf("check %s: it has no checksum, or is cut off", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if _, err := io.CopyN(sum, f, size-sha256.Size); err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(f, want); err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return fmt.Errorf("check %s: its checksum is another: it is damaged", name)
	}
	return nil
}

func stateOf(ctx context.Context, e *embed.Etcd) (State, error) {
	hash, _, err := e.Server.KV().HashStorage().HashByRev(0)
	if err != nil {
		return State{}, fmt.Errorf("hash what the datastore holds: %w", err)
	}
	keys, err := count(ctx, e)
	return State{Revision: hash.Revision, Keys: keys, Hash: hash.Hash}, err
}

// startLimit bounds the start of a datastore whose files are whole.
const startLimit = 2 * time.Minute

// running starts a member on sockets beside its data, as the only one of its cluster, and stops it when do has ended.
func running(ctx context.Context, dir, name string, force bool, do func(*embed.Etcd) error) error {
	sockets := filepath.Dir(dir)
	// A socket's path is short however deep the folder lies: it is named from here.
	if err := os.Chdir(sockets); err != nil {
		return fmt.Errorf("enter the scratch folder: %w", err)
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.ForceNewCluster = name, dir, force
	// It calls every end an error; what fails comes back as one.
	c.Logger, c.LogLevel, c.LogOutputs = "zap", "fatal", []string{"stderr"}
	c.UnsafeNoFsync = true // it is a copy
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: "peer.sock"}}
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Host: "client.sock"}}
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	c.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2379"}}
	c.InitialCluster = name + "=http://127.0.0.1:2380"
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("start the datastore of %s: %w", dir, err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
		return do(e)
	case err := <-e.Err():
		return fmt.Errorf("start the datastore of %s: %w", dir, err)
	case <-e.Server.StopNotify():
		return errors.New("the datastore stopped as it was started")
	case <-ctx.Done():
		return fmt.Errorf("wait for the datastore of %s: %w", dir, ctx.Err())
	}
}
