package offline

import (
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// Only a database that was never made goes: not one that a log belongs to, and
// not one that is as large as an empty one.
func TestUnmade(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	db, err := bolt.Open(empty, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile(empty)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		db   []byte
		log  bool
		stay bool
	}{
		"half of what is written first":    {made[:len(made)/2], false, false},
		"nothing":                          {nil, false, false},
		"all of what is written first":     {made, false, true},
		"half, beside a log that is begun": {made[:len(made)/2], true, true},
		"a whole one, beside a log":        {made, true, true},
	} {
		data := t.TempDir()
		file := filepath.Join(data, "member", "snap", "db")
		files := map[string][]byte{file: c.db}
		if c.log {
			files[filepath.Join(data, "member", "wal", "0000000000000000-0000000000000000.wal")] = []byte("x")
		}
		for f, content := range files {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := Unmade(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(file); (err == nil) != c.stay {
			t.Errorf("%s: %v, want it to stay: %v", name, err, c.stay)
		}
	}
	if err := Unmade(filepath.Join(t.TempDir(), "nowhere")); err != nil {
		t.Error(err)
	}
}
