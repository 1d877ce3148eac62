package pluginsdir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mk8s.io/mk/pluginsdir/folder"
	"mk8s.io/mk/pluginsdir/lockfile"
)

// Names of what is not, or no longer, part of the store.
const (
	incomingPrefix = ".incoming-"
	removedPrefix  = ".removed-"
)

func (d *Dir) openStore() (*os.Root, error) {
	p := filepath.Join(d.path, "store")
	if err := os.MkdirAll(p, folderMode); err != nil {
		return nil, fmt.Errorf("making the store: %w", err)
	}
	for _, f := range []string{d.path, p} {
		if err := os.Chmod(f, folderMode); err != nil {
			return nil, fmt.Errorf("making the store: %w", err)
		}
	}
	r, err := os.OpenRoot(p)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	return r, nil
}

func (d *Dir) newIncoming(store *os.Root) (string, *os.Root, error) {
	name := incomingPrefix + rand.Text()
	if err := store.Mkdir(name, 0o700); err != nil {
		return "", nil, fmt.Errorf("making a folder in the store: %w", err)
	}
	r, err := store.OpenRoot(name)
	if err != nil {
		return "", nil, fmt.Errorf("opening a folder in the store: %w", err)
	}
	return name, r, nil
}

// settle gives the copy its final name. What lies there already is kept where
// it is intact, so that running plugins keep their files, else put aside.
func (in *install) settle(ctx context.Context) error {
	final := storeName(in.entry.Digest)
	switch err := in.dir.intact(ctx, in.entry.Digest); {
	case err == nil:
		return nil // discard removes the copy
	case ctx.Err() != nil:
		return err
	case !errors.Is(err, fs.ErrNotExist):
		if err := in.store.Rename(final, removedPrefix+rand.Text()); err != nil {
			return fmt.Errorf("putting aside the damaged %s: %w", in.name(), err)
		}
	}
	if err := in.store.Rename(in.incoming, final); err != nil {
		return fmt.Errorf("storing %s: %w", in.name(), err)
	}
	in.incoming = ""
	return syncRoot(in.store)
}

// discard removes the copy where it did not become part of the store. A failure
// leaves it for the next sweep.
func (in *install) discard() {
	if in.incoming != "" {
		_ = folder.Remove(in.store, in.incoming)
	}
}

func syncRoot(r *os.Root) error {
	d, err := r.Open(".")
	if err != nil {
		return fmt.Errorf("syncing %s: %w", r.Name(), err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", r.Name(), err)
	}
	return nil
}

// intact recomputes the digest of a stored folder.
func (d *Dir) intact(ctx context.Context, digest string) error {
	p := d.StorePath(digest)
	r, err := os.OpenRoot(p)
	if err != nil {
		return fmt.Errorf("opening %s: %w", p, err)
	}
	defer r.Close()
	t, err := folder.Read(ctx, r, folder.DefaultLimits())
	if err != nil {
		return fmt.Errorf("reading %s: %w", p, err)
	}
	if got := t.Digest(); got != digest {
		return fmt.Errorf("its digest is %s, the lock file says %s (%s)", got, digest, p)
	}
	return nil
}

// Sweep clears what a killed install or remove left: copies, stored folders
// and descriptions that the lock file does not name, receipts that are pending.
// Digests in keep are spared. It answers the lock file that it read.
func (d *Dir) Sweep(ctx context.Context, keep ...string) (*lockfile.Lock, error) {
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for _, digest := range keep {
		needed[storeName(digest)] = true
	}
	for _, i := range l.Installed {
		needed[storeName(i.Digest)] = true
	}
	store, err := d.openStore()
	if err != nil {
		return nil, err
	}
	defer store.Close()
	entries, err := fs.ReadDir(store.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("sweeping the store: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("sweeping the store: %w", err)
		}
		if needed[e.Name()] || !ours(e.Name()) {
			continue
		}
		if err := d.drop(store, e.Name()); err != nil {
			return nil, err
		}
	}
	return l, d.settleReceipts(l)
}

// ours spares what someone else put there.
func ours(name string) bool {
	return strings.HasPrefix(name, incomingPrefix) || strings.HasPrefix(name, removedPrefix) ||
		lockfile.ValidDigest(strings.Replace(name, "sha256-", "sha256:", 1))
}

// drop takes a folder out of the store before it is removed, so that one that
// is removed in part never has a digest's name.
func (d *Dir) drop(store *os.Root, name string) error {
	if hex, ok := strings.CutPrefix(name, "sha256-"); ok {
		if err := d.removeDescribed(hex); err != nil {
			return err
		}
		aside := removedPrefix + rand.Text()
		if err := store.Rename(name, aside); err != nil {
			return fmt.Errorf("taking %s out of the store: %w", name, err)
		}
		name = aside
	}
	return folder.Remove(store, name)
}
