package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// file is one entry of the layer.
type file struct {
	source string // on this machine; empty for a folder
	exec   bool
}

// collect maps clean paths in the image, without a leading slash, to what lies there; folders above a file are
// among them. Anything but folders and regular files is an error: a link would not mean the same elsewhere.
func collect(sources map[string]string) (map[string]file, error) {
	if len(sources) == 0 {
		return nil, errors.New("nothing to put into the image")
	}
	files := map[string]file{}
	for target, source := range sources {
		err := filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(source, name)
			if err != nil {
				return err
			}
			return add(files, path.Join("/", target, filepath.ToSlash(relative)), name, entry)
		})
		if err != nil {
			return nil, fmt.Errorf("collecting %s: %w", source, err)
		}
	}
	return files, nil
}

func add(files map[string]file, target, source string, entry fs.DirEntry) error {
	target = strings.TrimPrefix(target, "/")
	for dir := path.Dir(target); dir != "."; dir = path.Dir(dir) {
		if f, ok := files[dir]; ok && f.source != "" {
			return fmt.Errorf("%s is a file and a folder", dir)
		}
		files[dir] = file{}
	}
	if target == "" {
		return nil
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	if _, twice := files[target]; twice && !info.IsDir() {
		return fmt.Errorf("%s is given twice", target)
	}
	switch {
	case info.IsDir():
		files[target] = file{}
	case info.Mode().IsRegular():
		files[target] = file{source: source, exec: info.Mode()&0o111 != 0}
	default:
		return fmt.Errorf("%s is neither a file nor a folder", source)
	}
	return nil
}

// replaceFile gives name the content that write produces, or leaves it as it was. After success it survives
// a power cut.
func replaceFile(name string, write func(io.Writer) error) error {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	err = write(f)
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, errors.Join(err, os.Remove(f.Name())))
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
