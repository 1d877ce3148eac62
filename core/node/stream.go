package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// WriteStream is WriteFile for what may not fit into memory: write is given
// where the content goes. Its error leaves the old file as it was.
func (r *Root) WriteStream(name string, p Perm, write func(io.Writer) error) error {
	temp, err := r.writeTemp(writePrefix, name, p, write)
	if err != nil {
		return fmt.Errorf("write %s: %w", r.Path(name), err)
	}
	r.step("rename", name)
	if err := r.fs.Rename(temp, name); err != nil {
		return fmt.Errorf("write %s: %w", r.Path(name), errors.Join(err, r.fs.Remove(temp)))
	}
	return r.wrap("write", name, r.syncFolder(path.Dir(name)))
}

// OpenFile opens a regular file of any size for reading.
func (r *Root) OpenFile(name string) (*os.File, error) {
	f, err := r.openRegular(name)
	return f, r.wrap("open", name, err)
}
