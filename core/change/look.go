package change

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"syscall"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/changeset"
)

// found is what has a name when all entries so far are done.
type found struct {
	digest string // of a file; folderDigest; absent
	made   bool   // an entry makes it
	data   []byte // of a file that an entry makes
	perm   node.Perm
	at     string // where it is on disk now, if no entry makes it
}

// look finds what name will be when all entries so far are done: it follows
// the entries back to the one that decides, or to the disk.
func (p *planner) look(name string) (found, error) {
	for i := len(p.entries) - 1; i >= 0; i-- {
		e := p.entries[i]
		switch e.Kind {
		case kindReplace:
			if name == e.Path {
				return found{digest: e.After, made: true, data: e.data, perm: e.perm}, nil
			}
		case kindRemove:
			if within(name, e.Path) {
				return found{digest: changeset.Absent, made: true}, nil
			}
		case kindFolder:
			if name == e.Path {
				return found{digest: folderDigest, made: true}, nil
			}
		case kindMove:
			if within(name, e.To) {
				name = e.Path + name[len(e.To):]
			} else if within(name, e.Path) {
				return found{digest: changeset.Absent, made: true}, nil
			}
		}
	}
	return p.onDisk(name)
}

func (p *planner) onDisk(name string) (found, error) {
	f := found{at: name}
	info, err := p.engine.Root.Stat(name)
	if err == nil && info.IsDir() {
		// A link to a folder counts as one for what goes into it; to move or
		// remove it concerns the link.
		f.digest = folderDigest
		return f, nil
	}
	f.digest, err = p.engine.Root.Digest(name)
	if errors.Is(err, syscall.ENOTDIR) { // below a file there is nothing
		f.digest, err = changeset.Absent, nil
	}
	if err != nil {
		return f, fmt.Errorf("look at %s: %w", name, err)
	}
	return f, nil
}

// read is the content that a file will have; nil if it will not be there.
func (p *planner) read(name string) ([]byte, error) {
	there, err := p.look(name)
	if err != nil || there.digest == changeset.Absent {
		return nil, err
	}
	if there.made {
		return there.data, nil
	}
	data, err := p.engine.Root.ReadFile(there.at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// place says where new contents are staged and old ones kept: beside their
// target, or in the nearest folder above that is there now and that this
// ChangeSet neither moves nor removes. It is on the same file system, and its
// name means the same before, while and after the entries are done.
func (p *planner) place() {
	known := map[string]bool{}
	for i := range p.entries {
		e := &p.entries[i]
		if e.Kind != kindReplace && e.Kind != kindRemove {
			continue
		}
		dir := path.Dir(e.Path)
		for dir != "." && !p.stays(dir, known) {
			dir = path.Dir(dir)
		}
		if e.Kind == kindReplace {
			e.Staged = temporary(dir, "staged", p.id, i)
		}
		if e.Before != changeset.Absent {
			e.Old = temporary(dir, "old", p.id, i)
		}
	}
}

func (p *planner) stays(dir string, known map[string]bool) bool {
	if is, ok := known[dir]; ok {
		return is
	}
	info, err := p.engine.Root.Stat(dir)
	is := err == nil && info.IsDir()
	for _, e := range p.entries {
		switch e.Kind {
		case kindRemove, kindFolder:
			is = is && !within(dir, e.Path)
		case kindMove:
			is = is && !within(dir, e.Path) && !within(dir, e.To)
		}
	}
	known[dir] = is
	return is
}

// prefix is that of temporary files everywhere in the node's folder.
const prefix = ".mk-"

// temporary is a name that no other entry of any ChangeSet has.
func temporary(dir, what string, id ID, n int) string {
	return path.Join(dir, prefix+what+"-"+id.String()+"-"+strconv.Itoa(n))
}
