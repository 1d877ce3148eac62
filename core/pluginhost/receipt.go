package pluginhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settled is how long a file must have been left alone before a receipt is
// written for it: longer than the ticks in which file systems count time.
const settled = 3 * time.Second

// receipts remember which files were compared with which digests since the
// machine started: links in a folder that only root can change, named by
// digest, whose text is the file's stamp. Nil remembers nothing, and no file
// is run in its place.
type receipts struct{ dir string }

// hold keeps everybody, root too, from changing a file as long as it is open
// here, and reports whether it could: the file is root's, nobody else may
// write it or has it open for writing, and the kernel gives a lease on it.
// Who opens it for writing meanwhile waits, and once it runs is refused.
func hold(f *os.File) bool {
	var st unix.Stat_t
	fd := int(f.Fd()) //nolint:gosec // a descriptor
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != 0 || st.Mode&0o022 != 0 {
		return false
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || !local(int64(fs.Type)) || fs.Flags&unix.ST_NOEXEC != 0 { //nolint:unconvert // its width differs
		return false
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK) //nolint:gosec // a descriptor
	return err == nil
}

// local reports whether this kernel alone changes what a file system holds,
// and when it last did. A server, or a program of a user, can say anything.
func local(magic int64) bool {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}

// stamp names one content of one file for as long as the machine runs. The
// kernel sets the time of change whenever content, owner or mode change, and
// nobody can set it back. It is empty where the file has changed just now.
func stamp(f *os.File, now time.Time) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil { //nolint:gosec // a descriptor
		return ""
	}
	if changed := time.Unix(st.Ctim.Unix()); now.Sub(changed) < settled {
		return ""
	}
	return fmt.Sprintf("%s %d:%d %d %d.%09d %d.%09d", strings.TrimSpace(string(boot)), st.Dev, st.Ino, st.Size,
		st.Ctim.Sec, st.Ctim.Nsec, st.Mtim.Sec, st.Mtim.Nsec)
}

// has reports whether the file with this stamp was found to have this digest.
// What it cannot make sure of it has not.
func (r *receipts) has(digest, stamp string) bool {
	name := r.name(digest)
	if name == "" || stamp == "" || strict(r.dir) != nil {
		return false
	}
	text, err := os.Readlink(name)
	return err == nil && text == stamp
}

// put remembers that. What cannot be kept costs time later, and nothing else.
func (r *receipts) put(digest, stamp string) {
	name := r.name(digest)
	if name == "" || stamp == "" {
		return
	}
	_ = os.MkdirAll(filepath.Dir(r.dir), 0o711) //nolint:gosec // others pass through
	_ = os.Mkdir(r.dir, 0o700)
	_ = os.Remove(name)
	_ = os.Symlink(stamp, name)
}

// name is the link of a digest, or empty for what is none.
func (r *receipts) name(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	if len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return ""
	}
	return filepath.Join(r.dir, hex)
}
