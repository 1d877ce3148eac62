package lock

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestChangedMarkers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string]bool{Stopped: true, HACluster: true, Clustered: false, NoCertReissue: false, No("flanneld"): true}
	write(Stopped, HACluster, No("flanneld"))
	if changed, err := Changed(dir, want); err != nil || changed != nil {
		t.Errorf("Changed = %v, %v", changed, err)
	}
	write("notes-of-a-person", NoCertReissue, string(Apply))
	if err := os.Remove(filepath.Join(dir, Stopped)); err != nil {
		t.Fatal(err)
	}
	changed, err := Changed(dir, want)
	if asked := []Marker{{NoCertReissue, true}, {Stopped, false}}; err != nil || !slices.Equal(changed, asked) {
		t.Errorf("Changed = %v, %v; want %v", changed, err, asked)
	}
	if _, err := Changed(filepath.Join(dir, HACluster), want); err == nil {
		t.Error("no error where the folder is a file")
	}
}
