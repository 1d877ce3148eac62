package membership

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/plugin"
)

const (
	// maxPlugin and maxPluginFiles bound a plugin that comes from a peer.
	maxPlugin      = 256 << 20
	maxPluginFiles = 2000
	fetchFolder    = joinFolder + "/plugin"
)

// PluginArchive is a plugin of this node's store, as a tar archive.
func (n Node) PluginArchive(digest string, w io.Writer) error {
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	if _, ok := lock.Find(digest); !ok {
		return plugin.Errorf(plugin.NotPossible, "no plugin with the digest %.80q is installed", digest)
	}
	t := tar.NewWriter(w)
	if err := errors.Join(t.AddFS(os.DirFS(n.Dir.StorePath(digest))), t.Close()); err != nil {
		return fmt.Errorf("pack the plugin %s: %w", digest, err)
	}
	return nil
}

// installArchive installs what PluginArchive of another node packed. What it
// is counts, not who sent it: another digest is refused.
func (n Node) installArchive(ctx context.Context, data []byte, p peer.Plugin, o pluginsdir.Options) (err error) {
	if err := n.Root.RemoveAll(fetchFolder); err != nil {
		return err
	}
	if err := unpackPlugin(n.Root, data); err != nil {
		return fmt.Errorf("unpack %s/%s %s: %w", p.Kind, p.Name, p.Version, err)
	}
	defer func() { err = errors.Join(err, n.Root.RemoveAll(fetchFolder)) }()
	o.Trial = n.Trial()
	o.Consent = func(*pluginsdir.Proposal) error { return nil } // given in the cluster
	if _, err := n.Dir.Install(ctx, n.Root.Path(fetchFolder), o); err != nil {
		return err
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	if _, ok := lock.Find(p.Digest); !ok {
		return plugin.Errorf(plugin.NotPossible, "the cluster sent another %s/%s %s than it runs", p.Kind, p.Name, p.Version)
	}
	return nil
}

// unpackPlugin takes regular files only, below one folder, within bounds.
func unpackPlugin(root *node.Root, data []byte) error {
	t, left := tar.NewReader(bytes.NewReader(data)), int64(maxPlugin)
	for count := 0; ; count++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if h.Typeflag == tar.TypeDir {
			continue // files make theirs
		}
		switch {
		case h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) || strings.Contains(name, "\x00"):
			return fmt.Errorf("%.100q is not a file of a plugin", h.Name)
		case count >= maxPluginFiles || h.Size < 0 || h.Size > left:
			return fmt.Errorf("more than %d files or %d bytes", maxPluginFiles, maxPlugin)
		}
		content := make([]byte, h.Size)
		if _, err := io.ReadFull(t, content); err != nil {
			return err
		}
		left -= h.Size
		full := fetchFolder + "/" + name
		if err := root.MkdirAll(path.Dir(full), node.Perm{Mode: 0o711, UID: -1, GID: -1}); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if h.Mode&0o100 != 0 {
			mode = 0o755
		}
		if err := root.WriteFile(full, content, node.Perm{Mode: mode, UID: -1, GID: -1}); err != nil {
			return err
		}
	}
}
