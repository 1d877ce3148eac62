package remains

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mk8s.io/mk/core/node"
)

// Elsewhere are the files that Kubernetes and the CNI library make outside a
// node's folders, wherever those are.
type Elsewhere struct {
	CNI   string // the folder in which the CNI library notes each pod's network
	Run   string // the node's folder for sockets, below which its pods' networks lie
	Links string // the folder of links to containers' logs
	Logs  string // the node's, of its pods
}

// NewElsewhere are those of a node.
func NewElsewhere(root *node.Root) Elsewhere {
	return Elsewhere{CNI: "/var/lib/cni/results", Run: root.RunDir(), Links: "/var/log/containers", Logs: root.Path("var/log/pods")}
}

// Remove removes the files that are this node's: what the CNI library noted of
// its pods, and the links to their logs.
func (e Elsewhere) Remove() error {
	return errors.Join(
		removeThose(e.CNI, func(name string) bool {
			var noted struct{ Netns string }
			data, err := os.ReadFile(name)
			return err == nil && json.Unmarshal(data, &noted) == nil && strings.HasPrefix(noted.Netns, e.Run+"/")
		}),
		removeThose(e.Links, func(name string) bool {
			to, err := os.Readlink(name)
			return err == nil && strings.HasPrefix(to, e.Logs+"/")
		}),
	)
}

// removeThose removes files of a folder, if it is there.
func removeThose(dir string, ours func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for what pods left: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		name := filepath.Join(dir, entry.Name())
		if !entry.Type().IsRegular() && entry.Type() != fs.ModeSymlink || !ours(name) {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove what pods left: %w", err))
		}
	}
	return errors.Join(errs...)
}
