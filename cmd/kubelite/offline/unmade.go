package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// firstPages is what the database writes before anything else, in pages: a file that is shorter holds nothing.
const firstPages = 4

// Unmade removes the database of a member whose very first start ended in the middle of making it, as it does on a full
// disk. etcd maps the file into memory and would end at each start, by SIGBUS, for what the file lacks. A member that has
// begun its log has promised something, and is left alone.
func Unmade(data string) error {
	file := filepath.Join(data, "member", "snap", "db")
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the datastore's files: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() >= int64(firstPages*os.Getpagesize()) {
		return nil
	}
	log, err := os.ReadDir(filepath.Join(data, "member", "wal"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the datastore's files: %w", err)
	}
	if len(log) > 0 {
		return nil
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("remove a database that was never made: %w", err)
	}
	return nil
}
