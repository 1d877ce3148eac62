package machine

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// network is the file of the machine's network namespace.
func (m *Machine) network() string { return "/run/netns/" + m.Name }

// ownMounts gives the machine a mount namespace: the host's mounts of now, and
// nothing that is mounted in the one is seen in the other.
func (m *Machine) ownMounts() error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("part the machine's mounts from the host's: %w", err)
		}
		var err error
		m.mounts, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
}

// Inside has do run on a thread in the machine's namespaces. What do opens is
// this process's: a socket stays in the network in which it was made.
func (m *Machine) Inside(do func() error) error {
	return onThread(func() error {
		net, err := os.Open(m.network())
		if err != nil {
			return err
		}
		defer net.Close() //nolint:errcheck // only read
		// A thread that shares its folder with others is in no mount namespace
		// but theirs.
		err = unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(m.mounts.Fd()), unix.CLONE_NEWNS) //nolint:gosec // a descriptor
		}
		if err == nil {
			err = unix.Setns(int(net.Fd()), unix.CLONE_NEWNET) //nolint:gosec // a descriptor
		}
		if err != nil {
			return fmt.Errorf("enter the machine %s: %w", m.Name, err)
		}
		return do()
	})
}

// onThread has do run on a thread of its own, which ends with it.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: what do changes of the thread stays its own
		done <- do()
	}()
	return <-done
}
