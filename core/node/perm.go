package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
)

// Perm is the mode and owner that a file or folder gets. Mode holds only the
// nine permission bits, and ModeSetgid for a folder whose files get its group,
// and must not be 0; a UID or GID of -1 is left as the
// system gives it.
type Perm struct {
	Mode fs.FileMode
	UID  int
	GID  int
}

// Secret is for what only root, and the admin group where there is one, reads.
func (r *Root) Secret() Perm { return r.grouped(0o600, 0o040) }

// SecretFolder is Secret for a folder.
func (r *Root) SecretFolder() Perm { return r.grouped(0o700, 0o050) }

// Passage is for a folder that others pass through and cannot list.
func (r *Root) Passage() Perm { return r.grouped(0o711, 0o040) }

// Public is for what everyone may read.
func (r *Root) Public() Perm { return Perm{Mode: 0o644, UID: -1, GID: -1} }

// Drawer is for the folder of a plugin's user, out of which the admin group
// reads by name what the plugin lets it: files made there get that group.
func (r *Root) Drawer(uid int) Perm {
	if r.opts.GID <= 0 {
		return Perm{Mode: 0o700, UID: uid, GID: uid}
	}
	return Perm{Mode: fs.ModeSetgid | 0o710, UID: uid, GID: r.opts.GID}
}

const settable = fs.ModePerm | fs.ModeSetgid

func (r *Root) grouped(mode, group fs.FileMode) Perm {
	if r.opts.GID <= 0 {
		return Perm{Mode: mode, UID: -1, GID: -1}
	}
	return Perm{Mode: mode | group, UID: -1, GID: r.opts.GID}
}

func (p Perm) check() error {
	if p.Mode&fs.ModePerm == 0 || p.Mode&^settable != 0 {
		return fmt.Errorf("mode %v is not a permission", p.Mode)
	}
	if p.UID < -1 || p.GID < -1 {
		return fmt.Errorf("owner %d:%d is not one", p.UID, p.GID)
	}
	return nil
}

// AdminGroup finds the group that may read secrets. A setting names one that
// must exist; without a setting it is mk, or microk8s where only that exists,
// or none (0 and "").
func AdminGroup(setting string) (gid int, name string, err error) {
	return adminGroup(setting, user.LookupGroup)
}

func adminGroup(setting string, lookup func(string) (*user.Group, error)) (int, string, error) {
	names := []string{"mk", "microk8s"}
	if setting != "" {
		names = []string{setting}
	}
	for _, name := range names {
		g, err := lookup(name)
		if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown && setting == "" {
			continue
		}
		if err != nil {
			return 0, "", fmt.Errorf("look up group %q: %w", name, err)
		}
		gid, err := strconv.Atoi(g.Gid)
		if err != nil || gid < 0 {
			return 0, "", fmt.Errorf("look up group %q: its number is %q", name, g.Gid)
		}
		return gid, name, nil
	}
	return 0, "", nil
}
