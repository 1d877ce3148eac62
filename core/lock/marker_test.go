package lock

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMarkersAreAProjection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[string]bool{Stopped: true, HACluster: true, Clustered: false, No("flanneld"): true}
	for range 2 {
		if err := Project(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	changed, err := Changed(dir, want)
	if err != nil || changed != nil {
		t.Errorf("Changed = %v, %v", changed, err)
	}
	for _, name := range []string{No("etcd"), "notes-of-a-person", NoCertReissue, string(Apply)} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, Stopped)); err != nil {
		t.Fatal(err)
	}
	changed, err = Changed(dir, want)
	asked := []Marker{{No("etcd"), true}, {NoCertReissue, true}, {Stopped, false}}
	slices.SortFunc(asked, func(a, b Marker) int { return map[bool]int{true: -1, false: 1}[a.Name < b.Name] })
	if err != nil || !slices.Equal(changed, asked) {
		t.Errorf("Changed = %v, %v; want %v", changed, err, asked)
	}
	want = maps.Clone(want)
	want[No("etcd")], want[NoCertReissue], want[No("flanneld")] = false, false, false
	if err := Project(dir, want); err != nil {
		t.Fatal(err)
	}
	if changed, err = Changed(dir, want); err != nil || changed != nil {
		t.Errorf("Changed = %v, %v", changed, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "notes-of-a-person")); err != nil {
		t.Error("a file that is no marker was removed")
	}
}

func TestMarkersAreNoPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"", "..", "../x", "a/b", "A", "operation", "apply", ".x"} {
		if err := Project(dir, map[string]bool{name: true}); err == nil {
			t.Errorf("%q is written", name)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := Project(filepath.Join(dir, "none"), map[string]bool{Stopped: true}); err == nil {
		t.Error("no error without a folder")
	}
	if _, err := Changed(filepath.Join(dir, "none"), nil); err == nil {
		t.Error("no error without a folder")
	}
}
