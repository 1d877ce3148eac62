package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// The marker files, with MicroK8s' names. They are written for people and
// tools, who may change them; what they mean stands in node.json.
const (
	Clustered     = "clustered.lock"
	Stopped       = "stopped.lock"
	HACluster     = "ha-cluster"
	Lite          = "lite.lock"
	NoCertReissue = "no-cert-reissue"
)

// No is the marker of a service that is not to run on this node.
func No(service string) string { return "no-" + service }

// Marker is a marker file that is there, or is not.
type Marker struct {
	Name    string
	Present bool
}

// Changed lists, sorted by name, the markers of dir that are not as want says,
// with what they are now: someone asks for that. It looks at those only that
// want names.
func Changed(dir string, want map[string]bool) ([]Marker, error) {
	var out []Marker
	for _, name := range slices.Sorted(maps.Keys(want)) {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read markers: %w", err)
		}
		if there := err == nil; there != want[name] {
			out = append(out, Marker{Name: name, Present: there})
		}
	}
	return out, nil
}
