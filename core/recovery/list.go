package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/settings"
	"mk8s.io/mk/core/snapshot"
)

// Info is one snapshot of this node's folder.
type Info struct {
	Name      string    `json:"name"`
	File      string    `json:"file"`
	Taken     time.Time `json:"taken"`
	Size      int64     `json:"sizeBytes"`
	Encrypted bool      `json:"encrypted"`
	// Of one that is not encrypted:
	Why      string `json:"why,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Objects  int64  `json:"objects,omitempty"`
	Fault    string `json:"fault,omitempty"` // why it cannot be read
}

// Snapshots are those in this node's folder, the newest first.
func (n Node) Snapshots() ([]*Info, error) {
	entries, err := n.Root.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := []*Info{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.Type().IsRegular() {
			continue
		}
		if !strings.HasSuffix(e.Name(), plainEnd) && !strings.HasSuffix(e.Name(), lockedEnd) {
			continue
		}
		i, err := n.info(e.Name(), nil)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	slices.SortStableFunc(out, func(a, b *Info) int { return b.Taken.Compare(a.Taken) })
	return out, nil
}

// info describes a snapshot; m is its manifest where that is known.
func (n Node) info(name string, m *snapshot.Manifest) (*Info, error) {
	st, err := n.Root.Stat(folder + "/" + name)
	if err != nil {
		return nil, err
	}
	i := &Info{Name: name, File: n.Root.Path(folder, name), Taken: st.ModTime().UTC(), Size: st.Size(), Encrypted: strings.HasSuffix(name, lockedEnd)}
	stem := strings.TrimSuffix(strings.TrimSuffix(name, ".age"), plainEnd)
	if at, err := time.Parse(nameTime, stem[strings.LastIndexByte(stem, '-')+1:]); err == nil {
		i.Taken = at
	}
	if m == nil && !i.Encrypted {
		if m, err = n.read(name); err != nil {
			i.Fault = err.Error()
		}
	}
	if m != nil {
		i.Taken, i.Why, i.Revision, i.Objects = m.Taken, m.Why, m.Revision, m.Objects
	}
	return i, nil
}

func (n Node) read(name string) (m *snapshot.Manifest, err error) {
	f, err := n.Root.OpenFile(folder + "/" + name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := snapshot.Parse(f)
	if err != nil {
		return nil, err
	}
	return r.Manifest, nil
}

// Interval is how often a snapshot is taken; 0 is never.
func (n Node) Interval() (time.Duration, error) {
	v, err := n.Settings.Get("snapshot-interval")
	if err != nil {
		return 0, err
	}
	return settings.ParseDuration(v.Value)
}

// Due is when the next snapshot is to be taken, and how often one is; never is
// an interval of 0.
func (n Node) Due() (time.Time, time.Duration, error) {
	interval, err := n.Interval()
	if err != nil {
		return time.Time{}, 0, err
	}
	list, err := n.Snapshots()
	if err != nil || len(list) == 0 {
		// A new node has nothing yet that is worth a snapshot.
		return n.Record.Created.Add(min(interval, time.Hour)), interval, err
	}
	return list[0].Taken.Add(interval), interval, nil
}

// Recipient is whom scheduled snapshots are encrypted to; nil is nobody.
func (n Node) Recipient() (*snapshot.Lock, error) {
	v, err := n.Settings.Get("snapshot-recipient")
	if err != nil || v.Value == "" {
		return nil, err
	}
	return snapshot.ParseRecipients(v.Value)
}

func (n Node) keep() (int, error) {
	v, err := n.Settings.Get("snapshot-keep")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(v.Value)
}

// open opens a snapshot: by its name in this node's folder, or a file.
func (n Node) open(name string) (*os.File, error) {
	if !strings.ContainsRune(name, '/') {
		f, err := n.Root.OpenFile(folder + "/" + name)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return OpenFile(name)
}

// OpenFile opens a snapshot that lies anywhere.
func OpenFile(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		return nil, fmt.Errorf("open the snapshot: %w", err)
	}
	return os.Open(name)
}

// Verified is what a snapshot was found to be.
type Verified struct {
	Manifest *snapshot.Manifest `json:"manifest"`
	Held     datastore.Held     `json:"datastore"`
}

// Verify reads a whole snapshot, compares it with its digests, and starts its
// datastore on a socket of its own.
func (n Node) Verify(ctx context.Context, name string, key *snapshot.Key) (out *Verified, err error) {
	f, err := n.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	work, done, err := n.scratch()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	m, err := n.unpack(f, key, work, func(name string) bool { return name == snapshot.Datastore })
	if err != nil {
		return nil, err
	}
	held, err := n.tool().Verify(ctx, n.Root.Path(work, snapshot.Datastore), n.Root.Path(work))
	if err != nil {
		return nil, err
	}
	if held.Keys != m.Objects || held.Revision != m.Revision {
		return nil, fmt.Errorf("the datastore holds %d objects at revision %d; %d at %d were saved", held.Keys, held.Revision, m.Objects, m.Revision)
	}
	return &Verified{Manifest: m, Held: held}, nil
}

// unpack writes the files of a snapshot that are wanted into a folder, all of
// root alone, and checks every one.
func (n Node) unpack(r io.Reader, key *snapshot.Key, to string, want func(string) bool) (*snapshot.Manifest, error) {
	plain, err := snapshot.Decrypt(r, key)
	if err != nil {
		return nil, err
	}
	s, err := snapshot.Parse(plain)
	if err != nil {
		return nil, err
	}
	err = s.Each(func(f snapshot.File, content io.Reader) error {
		if !want(f.Name) {
			return nil
		}
		target := to + "/" + f.Name
		if err := n.Root.MkdirAll(filepath.Dir(target), privateFolder()); err != nil {
			return err
		}
		p := private()
		p.Mode = f.Mode&0o100 | 0o600
		return n.Root.WriteStream(target, p, func(w io.Writer) error {
			_, err := io.Copy(w, content)
			return err
		})
	})
	return s.Manifest, err
}
