package offline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Member is one that the files of a datastore know.
type Member struct {
	Name    string   `json:"name"`
	Peers   []string `json:"peers"`
	Clients []string `json:"clients,omitempty"`
	Learner bool     `json:"learner,omitempty"`
}

// Members are those that the files of a member that does not run know.
func Members(data, scratch string) ([]Member, error) {
	lg, err := quiet()
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	// Opening a backend may write to it: a copy is opened.
	copied := filepath.Join(scratch, "db")
	if err := copyFile(datadir.ToBackendFileName(data), copied); err != nil {
		return nil, err
	}
	be := backend.NewDefaultBackend(lg, copied)
	defer be.Close()
	found, _ := schema.NewMembershipBackend(lg, be).MustReadMembersFromBackend()
	var out []Member
	for _, m := range found {
		out = append(out, Member{Name: m.Name, Peers: m.PeerURLs, Clients: m.ClientURLs, Learner: m.IsLearner})
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Rescue writes a snapshot of all that a member's files hold: also what it had written down and not yet heard that the
// others had. They may have: one of them may have said so to a client.
func Rescue(ctx context.Context, data, name, to, scratch string) (State, error) {
	lg, err := quiet()
	if err != nil {
		return State{}, fmt.Errorf("log: %w", err)
	}
	dir := filepath.Join(scratch, "rescue")
	if err := copyTree(data, dir); err != nil {
		return State{}, err
	}
	if err := commitAll(lg, dir); err != nil {
		return State{}, fmt.Errorf("read the log of %s: %w", data, err)
	}
	var s State
	err = running(ctx, dir, name, true, func(e *embed.Etcd) error {
		// A read that all agree on comes after everything in the log: "all" is this member.
		if s.Keys, err = count(ctx, e); err != nil {
			return err
		}
		if s, err = stateOf(ctx, e); err != nil {
			return err
		}
		s.Size, err = writeSnapshot(e, to)
		return err
	})
	return s, err
}

func count(ctx context.Context, e *embed.Etcd) (int64, error) {
	c := v3client.New(e.Server)
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	resp, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count the keys of the datastore: %w", err)
	}
	return resp.Count, nil
}

// memberLog is what the files of a member hold of its log.
type memberLog struct {
	at       walpb.Snapshot // from where on
	voters   []uint64       // there
	metadata []byte         // whose log it is
	state    raftpb.HardState
	entries  []raftpb.Entry
}

func readMember(lg *zap.Logger, data string) (*memberLog, error) {
	dir := datadir.ToWALDir(data)
	known, err := wal.ValidSnapshotEntries(lg, dir)
	if err != nil {
		return nil, err
	}
	newest, err := snap.New(lg, datadir.ToSnapDir(data)).LoadNewestAvailable(known)
	if err != nil && !errors.Is(err, snap.ErrNoSnapshot) {
		return nil, err
	}
	l := &memberLog{}
	if newest != nil {
		l.at.Index, l.at.Term, l.voters = newest.Metadata.Index, newest.Metadata.Term, newest.Metadata.ConfState.Voters
	}
	return l, l.read(lg, dir)
}

// commitAll makes everything in a member's log count as agreed on.
func commitAll(lg *zap.Logger, data string) error {
	l, err := readMember(lg, data)
	if err != nil {
		return err
	}
	return l.commit(lg, data)
}

func (l *memberLog) commit(lg *zap.Logger, data string) error {
	if len(l.entries) == 0 || l.entries[len(l.entries)-1].Index <= l.state.Commit {
		return nil
	}
	w, err := wal.Open(lg, datadir.ToWALDir(data), l.at)
	if err != nil {
		return err
	}
	if _, _, _, err := w.ReadAll(); err != nil {
		return errors.Join(err, w.Close())
	}
	state := l.state
	state.Commit = l.entries[len(l.entries)-1].Index
	// Saved with a term of its own: a state in which nothing but the commit is new is not synced.
	return errors.Join(w.Save(state, nil), w.Sync(), w.Close())
}

// read reads a log whose last record a crash may have cut.
func (l *memberLog) read(lg *zap.Logger, dir string) error {
	for repaired := false; ; repaired = true {
		w, err := wal.Open(lg, dir, l.at)
		if err != nil {
			return err
		}
		l.metadata, l.state, l.entries, err = w.ReadAll()
		if err == nil {
			return w.Close()
		}
		if err = errors.Join(err, w.Close()); repaired || !errors.Is(err, io.ErrUnexpectedEOF) || !wal.Repair(lg, dir) {
			return err
		}
	}
}

// writeSnapshot writes a running member's data, and their checksum behind them, as etcd's own snapshots have it.
func writeSnapshot(e *embed.Etcd, to string) (size int64, err error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s := e.Server.Backend().Snapshot()
	defer func() { err = errors.Join(err, s.Close()) }()
	sum := sha256.New()
	if size, err = s.WriteTo(io.MultiWriter(f, sum)); err != nil {
		return 0, fmt.Errorf("write %s: %w", to, err)
	}
	if _, err := f.Write(sum.Sum(nil)); err != nil {
		return 0, fmt.Errorf("write %s: %w", to, err)
	}
	return size + sha256.Size, f.Sync()
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch target := filepath.Join(to, rel); {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case d.Type().IsRegular():
			return copyFile(path, target)
		default:
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
