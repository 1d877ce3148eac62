// Package snapshot is the file that brings a cluster back: a compressed tar
// archive whose first entry says what follows, with sizes and digests, and
// which is encrypted as a whole where it holds the authorities' keys.
//
// Guaranteed: what is read is what was written, entry by entry, or an error;
// no entry has a name that leads out of the folder it is unpacked to, and none
// is larger than was said and allowed. Not guaranteed: that the datastore in
// it can be started; core/datastore tries that.
package snapshot

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Schema is the newest form that this mk writes and reads.
const Schema = 1

const (
	manifestName = "manifest.json"
	maxManifest  = 4 << 20
	maxFiles     = 10_000
	// MaxFile bounds every file but the datastore, MaxDatastore that.
	MaxFile      = 256 << 20
	MaxDatastore = 16 << 30
	// Datastore is the name of etcd's own snapshot in the archive.
	Datastore = "datastore.db"
)

// Manifest says what a snapshot holds. It is its first entry.
type Manifest struct {
	Schema  int               `json:"schema"`
	Taken   time.Time         `json:"taken"`
	Why     string            `json:"why"` // the verb before which it was taken, save, or schedule
	Node    string            `json:"node"`
	Root    string            `json:"root"` // the root folder of the node
	Address string            `json:"address"`
	Cluster string            `json:"cluster"` // its id
	Keys    bool              `json:"keys"`    // the authorities' keys are in it
	By      map[string]string `json:"versions"`
	// Of the datastore, as it was when it was started from the snapshot.
	Revision int64    `json:"revision"`
	Objects  int64    `json:"objects"`
	Members  []Member `json:"members"`
	Files    []File   `json:"files"`
}

// Member is a control-plane node of then.
type Member struct {
	Name string `json:"name"`
	Host string `json:"host"`
}

// File is one file of a snapshot.
type File struct {
	Name   string      `json:"name"` // as below the root folder, but for Datastore
	Size   int64       `json:"size"`
	SHA256 string      `json:"sha256"`
	Mode   fs.FileMode `json:"mode"`
}

// check refuses a manifest that is not one of mk's.
func (m *Manifest) check() error {
	if m.Schema < 1 || m.Schema > Schema {
		return fmt.Errorf("its schema is %d, this mk knows up to %d", m.Schema, Schema)
	}
	if len(m.Files) == 0 || len(m.Files) > maxFiles {
		return fmt.Errorf("it names %d files", len(m.Files))
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		most := int64(MaxFile)
		if f.Name == Datastore {
			most = MaxDatastore
		}
		switch {
		case !fs.ValidPath(f.Name) || f.Name == "." || f.Name == manifestName || strings.ContainsAny(f.Name, "\x00\\") || seen[f.Name]:
			return fmt.Errorf("%.100q is not the name of a file, or one that is there twice", f.Name)
		case f.Size < 0 || f.Size > most:
			return fmt.Errorf("%s: %d bytes are more than %d", f.Name, f.Size, most)
		case f.Mode&^fs.ModePerm != 0:
			return fmt.Errorf("%s: %o is not a mode", f.Name, f.Mode)
		}
		seen[f.Name] = true
	}
	return nil
}

// Sum fills in a file's size and digest from its content.
func Sum(f File, r io.Reader) (File, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return f, fmt.Errorf("read %s: %w", f.Name, err)
	}
	f.Size, f.SHA256 = n, hex.EncodeToString(sum.Sum(nil))
	return f, nil
}

// Write writes a snapshot; open answers the content of each file, which must be
// what its Sum was.
func Write(w io.Writer, m *Manifest, open func(name string) (io.ReadCloser, error)) error {
	m.Schema = Schema
	if err := m.check(); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	t := tar.NewWriter(z)
	header := func(name string, size int64, mode fs.FileMode) *tar.Header {
		return &tar.Header{Name: name, Size: size, Mode: int64(mode), ModTime: m.Taken, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	}
	if err := t.WriteHeader(header(manifestName, int64(len(data)), 0o600)); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if _, err := t.Write(data); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	for _, f := range m.Files {
		if err := t.WriteHeader(header(f.Name, f.Size, f.Mode)); err != nil {
			return fmt.Errorf("write %s to a snapshot: %w", f.Name, err)
		}
		if err := copyFrom(t, f.Name, open); err != nil {
			return fmt.Errorf("write %s to a snapshot: %w", f.Name, err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

func copyFrom(w io.Writer, name string, open func(string) (io.ReadCloser, error)) error {
	r, err := open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// Reader reads a snapshot.
type Reader struct {
	Manifest *Manifest
	tar      *tar.Reader
}

// Parse reads a snapshot up to its manifest. What is encrypted goes through
// Decrypt first.
func Parse(r io.Reader) (*Reader, error) {
	b := bufio.NewReader(r)
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("it is not a snapshot of mk: %w", err)
	}
	t := tar.NewReader(z)
	h, err := t.Next()
	if err != nil || h.Name != manifestName || h.Typeflag != tar.TypeReg || h.Size > maxManifest {
		return nil, errors.Join(errors.New("it is not a snapshot of mk: it does not begin with "+manifestName), err)
	}
	data, err := io.ReadAll(io.LimitReader(t, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("read its %s: %w", manifestName, err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read its %s: %w", manifestName, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("it is not a snapshot of mk: %w", err)
	}
	return &Reader{Manifest: m, tar: t}, nil
}

// Each hands every file to do, in their order. A file that is not what the
// manifest says is an error, after do has had it: what do wrote of it is not to
// be used.
func (r *Reader) Each(do func(f File, content io.Reader) error) error {
	for _, f := range r.Manifest.Files {
		h, err := r.tar.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s is missing: the snapshot is cut off", f.Name)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		if h.Name != f.Name || h.Typeflag != tar.TypeReg || h.Size != f.Size {
			return fmt.Errorf("%.100q stands where the manifest has %s of %d bytes", path.Clean(h.Name), f.Name, f.Size)
		}
		sum := sha256.New()
		content := io.TeeReader(io.LimitReader(r.tar, f.Size), sum)
		if err := do(f, content); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
			return fmt.Errorf("%s is not what was saved: its digest differs", f.Name)
		}
	}
	if _, err := r.tar.Next(); !errors.Is(err, io.EOF) {
		return errors.New("more follows than the manifest says")
	}
	return nil
}
