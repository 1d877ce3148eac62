package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketPath is what sun_path holds, with its end.
const maxSocketPath = 107

// runFolder makes the folder of one start: <base>/<pid>-<start time>-<n>,
// which only root may change and only the plugin's user may pass through, below
// folders that others can only pass through. What the plugin may change lies
// one deeper: so nothing that root does by path here can be turned elsewhere by
// another process of that user. Pid and start time tell later whether its host
// still lives.
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
	if uid < 0 {
		return dir, nil
	}
	if err := errors.Join(os.Lchown(dir, 0, uid), os.Chmod(dir, 0o710)); err != nil { //nolint:gosec // one user passes through
		return "", errors.Join(fmt.Errorf("let user %d into %s: %w", uid, dir, err), os.RemoveAll(dir))
	}
	return dir, nil
}

// own gives a path in a run folder to the plugin's user; -1 leaves the owner.
func own(path string, uid int, mode fs.FileMode) error {
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", path, err)
	}
	if uid < 0 {
		return nil
	}
	if err := os.Lchown(path, uid, uid); err != nil {
		return fmt.Errorf("give %s to user %d: %w", path, uid, err)
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
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("look at process %d: its stat is cut short", pid)
	}
	return fields[19], nil
}
