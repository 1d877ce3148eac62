package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what sun_path holds, with its end.
const maxSocketPath = 107

// runFolder makes the folder of one start: <base>/<pid>-<start time>-<n>,
// owned by the plugin's user, mode 0700, below folders that others can only
// pass through. Pid and start time tell later whether its host still lives.
func runFolder(base string, uid int) (string, error) {
	if err := os.MkdirAll(filepath.Dir(base), 0o711); err != nil { //nolint:gosec // others pass through
		return "", fmt.Errorf("make %s: %w", filepath.Dir(base), err)
	}
	if err := os.MkdirAll(base, 0o711); err != nil { //nolint:gosec // others pass through
		return "", fmt.Errorf("make %s: %w", base, err)
	}
	started, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(base, fmt.Sprintf("p%d-%s-", os.Getpid(), started))
	if err != nil {
		return "", fmt.Errorf("make a folder for sockets: %w", err)
	}
	// go-plugin adds plugin-dir<10 digits>/plugin<10 digits>.
	if longest := len(dir) + len("/plugin-dir0000000000/plugin0000000000"); longest > maxSocketPath {
		return "", errors.Join(fmt.Errorf("%s is too long for sockets: a path may have %d characters, this would have %d", base, maxSocketPath, longest), os.RemoveAll(dir))
	}
	if err := own(dir, uid, 0o700); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

func own(dir string, uid int, mode fs.FileMode) error {
	if uid >= 0 && os.Geteuid() == 0 {
		if err := os.Chown(dir, uid, uid); err != nil {
			return fmt.Errorf("give %s to user %d: %w", dir, uid, err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", dir, err)
	}
	return nil
}

// Sweep removes the folders that killed hosts left below base. The processes
// of those hosts died with them.
func Sweep(base string) error {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", base, err)
	}
	var errs []error
	for _, e := range entries {
		if pid, started, ok := hostOf(e.Name()); ok && !alive(pid, started) {
			errs = append(errs, os.RemoveAll(filepath.Join(base, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func hostOf(name string) (pid int, started string, ok bool) {
	rest, ok := strings.CutPrefix(name, "p")
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 3 {
		return 0, "", false
	}
	pid, err := strconv.Atoi(parts[0])
	return pid, parts[1], err == nil
}

func alive(pid int, started string) bool {
	now, err := startTime(pid)
	return err == nil && now == started
}

// startTime is field 22 of /proc/<pid>/stat: with it a pid names one process.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The second field is the name in parentheses and may hold anything.
	_, after, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')'):]), " ")
	fields := strings.Fields(after)
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("look at process %d: its stat is cut short", pid)
	}
	return fields[19], nil
}

// ownerOf is who owns a path; used by the strict checks of scripts.
func ownerOf(path string) (uid uint32, mode fs.FileMode, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Uid, fs.FileMode(st.Mode & 0o777), nil
}

// strict refuses a path of which any component can be changed by someone
// other than root: what runs from there cannot be swapped between check and
// start.
func strict(path string) error {
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		uid, mode, err := ownerOf(p)
		if err != nil {
			return err
		}
		sticky := false
		if info, err := os.Lstat(p); err == nil {
			sticky = info.Mode()&fs.ModeSticky != 0
		}
		if uid != 0 && uid != uint32(os.Geteuid()) { //nolint:gosec // a uid
			return fmt.Errorf("%s belongs to user %d, who could swap the program", p, uid)
		}
		if mode&0o022 != 0 && !sticky {
			return fmt.Errorf("%s can be written by others, who could swap the program", p)
		}
		if p == "/" {
			return nil
		}
	}
}
