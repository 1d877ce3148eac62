// Package handshake keeps standard output free for the one line that a host
// reads. In a process that a host started (the cookie is set), file descriptor
// 1 becomes standard error when this package is initialized, and a private
// copy is kept for that line.
//
// Packages that are initialized before this one can still print into the
// handshake: Go initializes packages whose imports are ready in the order of
// their paths. This package imports nothing but golang.org/x/sys, so only paths
// that sort before it matter; what a plugin's main package does comes later.
package handshake

import (
	"os"

	"golang.org/x/sys/unix"
)

// The cookie is a help text for people who run a plugin by hand. It protects
// nothing.
const (
	CookieKey   = "MK_PLUGIN"
	CookieValue = "started-by-mk"
)

// taken is the outcome of the swap; set once, before main begins.
var taken = take(os.Getenv(CookieKey) == CookieValue)

type outcome struct {
	file *os.File
	err  error
}

func take(hosted bool) outcome {
	if !hosted {
		return outcome{}
	}
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return outcome{err: err}
	}
	if err := unix.Dup3(2, 1, 0); err != nil {
		return outcome{err: err}
	}
	return outcome{file: os.NewFile(uintptr(fd), "handshake")}
}

// Hosted reports whether a host started this process.
func Hosted() bool { return taken.file != nil || taken.err != nil }

// Output is where the handshake line goes. It is there only if Hosted.
func Output() (*os.File, error) { return taken.file, taken.err }
