package pluginsdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"mk8s.io/mk/pluginsdir/folder"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/problem"
)

// Finding is one thing that is not as the lock file says.
type Finding struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	Path     string `json:"path"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	Next     string `json:"next"`
}

// Error says it in the words of a message; errors.Is finds ErrRefused.
func (f Finding) Error() string {
	return f.problem().Error()
}

// Unwrap makes errors.Is find ErrRefused.
func (f Finding) Unwrap() error { return ErrRefused }

func (f Finding) problem() error {
	return problem.Refused(fmt.Sprintf("plugin %s/%s %s is not the one that was installed", f.Kind, f.Name, f.Version),
		fmt.Sprintf("%s is %s, the lock file says %s", f.Path, f.Found, f.Expected), f.Next)
}

// Verify recomputes the digests of what is installed and looks at who may
// change it. wanted chooses; nil takes all. No finding means that all is as it
// was installed. The error is about the verifying itself.
func (d *Dir) Verify(ctx context.Context, wanted func(lockfile.Installed) bool) ([]Finding, error) {
	l, err := d.Lock()
	if err != nil {
		return nil, err
	}
	var out []Finding
	for _, i := range l.Installed {
		if wanted != nil && !wanted(i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return out, fmt.Errorf("verifying plugins: %w", err)
		}
		found, err := d.verify(ctx, i)
		if err != nil {
			return out, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// VerifyInstalled is Verify for one version, as an error: for the moment before
// a plugin that is no single program is started.
func (d *Dir) VerifyInstalled(ctx context.Context, i lockfile.Installed) error {
	found, err := d.verify(ctx, i)
	if err != nil || len(found) == 0 {
		return err
	}
	return found[0]
}

func (d *Dir) verify(ctx context.Context, i lockfile.Installed) ([]Finding, error) {
	p := d.StorePath(i.Digest)
	base := Finding{
		Kind: i.Kind, Name: i.Name, Version: i.Version, Path: p, Expected: i.Digest,
		Next: fmt.Sprintf("mk plugin install %s@%s --reinstall", i.Identity, i.Version),
	}
	add := func(path, expected, found string) Finding {
		f := base
		f.Path, f.Expected, f.Found = path, expected, found
		return f
	}
	r, err := os.OpenRoot(p)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return []Finding{add(p, i.Digest, "missing")}, nil
		}
		return nil, fmt.Errorf("verifying %s %s: %w", i.Identity, i.Version, err)
	}
	defer r.Close()
	t, err := folder.Read(ctx, r, folder.DefaultLimits())
	if errors.Is(err, folder.ErrHostile) {
		return []Finding{add(p, i.Digest, err.Error())}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verifying %s %s: %w", i.Identity, i.Version, err)
	}
	out := changeable(r, p, t, add)
	if t.Digest() == i.Digest {
		return out, nil
	}
	if f, ok := t.File(manifest.FileName); !ok || "sha256:"+f.SHA256 != i.Manifest {
		return append(out, add(filepath.Join(p, manifest.FileName), i.Manifest, shaOf(f, ok))), nil
	}
	for _, program := range i.Programs {
		f, ok := t.File(program.Bin)
		if ok && f.SHA256 != program.SHA256 {
			return append(out, add(filepath.Join(p, program.Bin), "sha256:"+program.SHA256, shaOf(f, ok))), nil
		}
	}
	return append(out, add(p, i.Digest, t.Digest())), nil
}

func shaOf(e folder.Entry, ok bool) string {
	if !ok {
		return "missing"
	}
	return "sha256:" + e.SHA256
}

// changeable finds what others than the owner of the store may write.
func changeable(r *os.Root, p string, t folder.Tree, add func(path, expected, found string) Finding) []Finding {
	entries := append([]folder.Entry{{Path: ".", Folder: true}}, t.Entries...)
	for _, e := range entries {
		info, err := r.Lstat(e.Path)
		if err != nil {
			continue // the digest tells
		}
		at := filepath.Join(p, e.Path)
		if info.Mode().Perm()&0o222 != 0 {
			return []Finding{add(at, "read-only", "writable: mode "+info.Mode().Perm().String())}
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() && s.Uid != 0 {
			return []Finding{add(at, "root's", fmt.Sprintf("owned by uid %d", s.Uid))}
		}
	}
	return nil
}
