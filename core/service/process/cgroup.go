package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"mk8s.io/mk/core/timer"
)

// KillCgroup ends every process in the cgroup at path and in those below it,
// and waits until none is left. On the unified hierarchy the kernel does it at
// once; on a v1 hierarchy it is repeated until a look finds nobody, since
// processes fork meanwhile. The folders stay. A path that does not exist is
// done already.
func KillCgroup(ctx context.Context, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("cgroup %q is not a clean absolute path", path)
	}
	for {
		pids, err := cgroupProcesses(path)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		if err := killCgroupOnce(path, pids); err != nil {
			return err
		}
		if !timer.Wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("end cgroup %s, %d processes left: %w", path, len(pids), ctx.Err())
		}
	}
}

func killCgroupOnce(path string, pids []int) error {
	f, err := os.OpenFile(filepath.Join(path, "cgroup.kill"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("1")
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("end cgroup %s: %w", path, err)
		}
		return nil
	}
	for _, pid := range pids {
		if pid <= 1 || pid == os.Getpid() {
			return fmt.Errorf("refuse to end cgroup %s: process %d is in it", path, pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d of cgroup %s: %w", pid, path, err)
		}
	}
	return nil
}

// cgroupProcesses lists who is in path and below. Zombies are not counted:
// they are dead, and stay listed on v1 until their parent reaps them.
func cgroupProcesses(path string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			pid, err := strconv.Atoi(lines.Text())
			if err != nil || pid == 0 { // 0: a process of another namespace
				continue
			}
			if st, err := readStat(pid); err == nil && st.state != 'Z' && st.state != 'X' {
				pids = append(pids, pid)
			}
		}
		if err := lines.Err(); err != nil && !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.EOPNOTSUPP) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %s: %w", path, err)
	}
	return pids, nil
}
