package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/snapshot"
	"mk8s.io/mk/pluginsdir/lockfile"
)

// folder holds this node's snapshots.
const folder = "var/snapshots"

const (
	plainEnd  = ".tar.gz"
	lockedEnd = ".tar.gz.age"
	nameTime  = "20060102T150405Z"
)

// SaveOptions say what a snapshot is to hold.
type SaveOptions struct {
	Why string // the verb that it is taken before, save, or schedule
	// To encrypts it; the authorities' keys are then in it. Nil is without.
	To *snapshot.Lock
}

// Save takes a snapshot, starts its datastore to see that it can be, and keeps
// it beside the newest others. It needs no quorum and stops nothing.
func (n Node) Save(ctx context.Context, o SaveOptions) (info *Info, err error) {
	if err := n.controlPlane("mk datastore snapshot save"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	work, done, err := n.scratch()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	db := work + "/" + snapshot.Datastore
	n.detail("copy the datastore")
	if err := n.saveDatastore(ctx, db); err != nil {
		return nil, err
	}
	n.detail("start the copy, to see that it can be")
	held, err := n.tool().Verify(ctx, n.Root.Path(db), n.Root.Path(work))
	if err != nil {
		return nil, err
	}
	m, err := n.manifest(ctx, o, held, db)
	if err != nil {
		return nil, err
	}
	name := n.Record.Name + "-" + m.Taken.Format(nameTime) + plainEnd
	if o.To != nil {
		name = strings.TrimSuffix(name, plainEnd) + lockedEnd
	}
	n.detail("write " + name)
	if err := n.Root.WriteStream(folder+"/"+name, n.Root.Secret(), func(w io.Writer) error { return n.writeTo(w, m, db, o.To) }); err != nil {
		return nil, err
	}
	if err := n.prune(); err != nil {
		return nil, err
	}
	return n.info(name, m)
}

func (n Node) saveDatastore(ctx context.Context, to string) error {
	c, err := n.Datastore()
	if err != nil {
		return err
	}
	err = n.Root.WriteStream(to, private(), func(w io.Writer) error { return c.Snapshot(ctx, w) })
	return errors.Join(err, c.Close())
}

func (n Node) writeTo(w io.Writer, m *snapshot.Manifest, db string, to *snapshot.Lock) error {
	if to == nil {
		return snapshot.Write(w, m, n.opener(db))
	}
	locked, err := snapshot.Encrypt(w, to)
	if err != nil {
		return err
	}
	return errors.Join(snapshot.Write(locked, m, n.opener(db)), locked.Close())
}

func (n Node) opener(db string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		if name == snapshot.Datastore {
			name = db
		}
		return n.Root.OpenFile(name)
	}
}

// manifest says what of this node goes into a snapshot.
func (n Node) manifest(ctx context.Context, o SaveOptions, held datastore.Held, db string) (*snapshot.Manifest, error) {
	m := &snapshot.Manifest{
		Taken: n.Now().UTC().Truncate(time.Second), Why: o.Why, Node: n.Record.Name, Root: n.Root.Dir(), Address: n.Record.Address,
		Cluster: n.Record.ClusterID, Keys: o.To != nil, Revision: held.Revision, Objects: held.Keys,
		By: map[string]string{"mk": n.Version, "kubernetes": operation.KubernetesVersion},
	}
	s, err := n.status(ctx)
	if err != nil {
		return nil, err
	}
	for _, member := range s.Members {
		m.Members = append(m.Members, snapshot.Member{Name: member.Label(), Host: member.Host()})
	}
	names, err := n.saved(m.Keys)
	if err != nil {
		return nil, err
	}
	for _, name := range append([]string{snapshot.Datastore}, names...) {
		f, err := n.sum(name, db)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since the look, or never there
		}
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, f)
	}
	return m, nil
}

func (n Node) sum(name, db string) (f snapshot.File, err error) {
	r, err := n.opener(db)(name)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f = snapshot.File{Name: name, Mode: 0o600}
	if strings.HasPrefix(name, "plugins/store/") {
		f.Mode = 0o755
	}
	return snapshot.Sum(f, r)
}

const accountKey = "certs/serviceaccount.key"

// saved are the files that a snapshot holds beside the datastore: what people
// and the cluster have decided, and what cannot be made again.
func (n Node) saved(keys bool) ([]string, error) {
	names := []string{
		"node.json", "settings.yaml", identityFile, lockList, accountKey, "certs/csr.conf.template", "credentials/known_tokens.csv",
		"certs/ca.crt", "certs/client-ca.crt", "certs/front-proxy-ca.crt", "certs/datastore-ca.crt",
	}
	folders := []string{"args", "plugins/settings"}
	if keys {
		folders = append(folders, stateFolder)
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return nil, err
	}
	for _, a := range lock.Active {
		if !n.ships(a) {
			folders = append(folders, "plugins/store/"+path.Base(n.Dir.StorePath(a.Digest)))
		}
	}
	for _, f := range folders {
		more, err := n.below(f)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	return names, nil
}

const (
	lockList    = "plugins/lock.json"
	stateFolder = "plugins/state"
)

// ships reports whether a plugin comes with mk: then an empty machine has it.
func (n Node) ships(a lockfile.Active) bool {
	_, err := os.Stat(filepath.Join(n.Programs.Plugins(), a.Kind+"-"+a.Name))
	return err == nil
}

// below are the regular files below a folder; links are people's business.
func (n Node) below(dir string) ([]string, error) {
	entries, err := n.Root.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := dir + "/" + e.Name()
		switch {
		case strings.HasPrefix(e.Name(), ".mk-"):
		case e.IsDir():
			more, err := n.below(name)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case e.Type().IsRegular():
			out = append(out, name)
		}
	}
	return out, nil
}

// prune removes all but the newest snapshots.
func (n Node) prune() error {
	keep, err := n.keep()
	if err != nil {
		return err
	}
	list, err := n.Snapshots()
	if err != nil {
		return err
	}
	var errs []error
	for _, old := range list[min(keep, len(list)):] {
		errs = append(errs, n.Root.RemoveAll(folder+"/"+old.Name))
	}
	return errors.Join(errs...)
}

// sweep removes what work that was killed has left.
func (n Node) sweep() error {
	entries, err := n.Root.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return n.Root.MkdirAll(folder, n.Root.SecretFolder())
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), ".") || n.Now().Sub(info.ModTime()) < 2*workLimit {
			continue
		}
		errs = append(errs, n.Root.RemoveAll(folder+"/"+e.Name()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what a snapshot that was killed has left: %w", err)
	}
	return nil
}
