package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// The marker files, with MicroK8s' names. They are written for people and
// tools, who may change them; what they mean stands in node.json.
const (
	Clustered      = "clustered.lock"
	Stopped        = "stopped.lock"
	HACluster      = "ha-cluster"
	Lite           = "lite.lock"
	NoCertReissue  = "no-cert-reissue"
	JoinInProgress = "join-in-progress"
)

// No is the marker of a service that is not to run on this node.
func No(service string) string { return "no-" + service }

// Marker is a marker file that is there, or is not.
type Marker struct {
	Name    string
	Present bool
}

// Project makes the marker files of dir what want says; files that want does
// not name stay. It may be repeated; what it did before an error stays.
func Project(dir string, want map[string]bool) error {
	for name := range want {
		if !isMarker(name) {
			return fmt.Errorf("write markers: %q is not a marker's name", name)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write markers: %w", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written through it that Sync did not report
	changed := false
	for _, name := range slices.Sorted(maps.Keys(want)) {
		did, err := project(root, name, want[name])
		if err != nil {
			return fmt.Errorf("write markers: %w", err)
		}
		changed = changed || did
	}
	if !changed {
		return nil
	}
	folder, err := root.Open(".")
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fmt.Errorf("write markers: %w", err)
	}
	return nil
}

func project(root *os.Root, name string, want bool) (bool, error) {
	_, err := root.Lstat(name)
	switch {
	case err == nil && !want:
		return true, root.Remove(name)
	case errors.Is(err, fs.ErrNotExist) && want:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return false, err
		}
		return true, f.Close()
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// Changed lists, sorted by name, the markers of dir that are not as want says,
// with what they are now: someone asks for that. A marker that want does not
// name counts if it is one of MicroK8s' and is there.
func Changed(dir string, want map[string]bool) ([]Marker, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read markers: %w", err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
	}
	names := map[string]bool{}
	for name := range want {
		names[name] = true
	}
	for name := range there {
		if known(name) {
			names[name] = true
		}
	}
	var out []Marker
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if there[name] != want[name] {
			out = append(out, Marker{Name: name, Present: there[name]})
		}
	}
	return out, nil
}

func known(name string) bool {
	switch name {
	case Clustered, Stopped, HACluster, Lite, NoCertReissue, JoinInProgress:
		return true
	}
	return strings.HasPrefix(name, "no-") && isMarker(name)
}

func isMarker(name string) bool {
	if name == "" || len(name) > 100 || name == string(Operation) || name == string(Apply) || name[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.'
	})
}
