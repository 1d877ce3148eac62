package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFiles bounds how many files a plugin of several files may have.
const maxFiles = 20_000

// strict refuses a path of which any component can be changed by someone
// other than root: what runs from there cannot be swapped between check and
// start. The path must be free of symbolic links.
func strict(path string) error {
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		if err := onlyRoots(p, info); err != nil {
			return err
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// strictTree does the same for everything below a folder: a script loads more
// than itself.
func strictTree(dir string) error {
	files := 0
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		if files++; files > maxFiles {
			return fmt.Errorf("%s has more than %d files", dir, maxFiles)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		if d.Type() == fs.ModeSymlink {
			return fmt.Errorf("%s is a symbolic link, which could lead anywhere", p)
		}
		return onlyRoots(p, info)
	})
}

func onlyRoots(p string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of " + p + " is not known")
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, who could swap the program", p, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%s can be written by others, who could swap the program", p)
	}
	return nil
}
