package change

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"mk8s.io/mk/core/node"
)

// perm is the mode and owner of a file: what others must not read belongs to
// root and the admin group alone.
func (e *Engine) perm(f File) node.Perm {
	switch {
	case f.Mode == 0 && f.Secret:
		return e.Root.Secret()
	case f.Mode == 0:
		return e.Root.Public()
	}
	p := node.Perm{Mode: f.Mode & fs.ModePerm, UID: -1, GID: -1}
	if !f.Secret {
		return p
	}
	p.Mode &^= 0o007
	switch {
	case p.Mode&0o070 == 0:
	case e.Root.GID() > 0:
		p.GID = e.Root.GID()
	default: // without an admin group, the group is whose folder it is
		p.Mode &^= 0o070
	}
	return p
}

// modeIs reports whether a file that is there has a mode and owner already.
func (p *planner) modeIs(there found, perm node.Perm) bool {
	if there.made {
		return there.perm == perm
	}
	info, err := p.engine.Root.Lstat(there.at)
	if err != nil || info.Mode().Perm() != perm.Mode {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (perm.GID == -1 || int(st.Gid) == perm.GID) && (perm.UID == -1 || int(st.Uid) == perm.UID)
}

// inode is the number of what has a name; 0 if nothing has.
func (e *Engine) inode(name string) (uint64, error) {
	info, err := e.Root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: its inode is unknown", name)
	}
	return st.Ino, nil
}
