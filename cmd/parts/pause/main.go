// Command pause holds a pod's namespaces open.
//
// It is the first process of every pod: it reaps what the pod's containers leave behind when they share a
// process namespace, and ends with status 0 on SIGINT or SIGTERM. It does nothing else, reads no file and
// opens no socket; only the packages needed for that are imported, because every pod pays for its size.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// version is set at link time to the version of the image.
var version = "unknown"

func main() {
	if len(os.Args) == 2 && (os.Args[1] == "-v" || os.Args[1] == "--version") {
		_, _ = os.Stdout.WriteString("pause " + version + "\n")
		return
	}
	if os.Getpid() != 1 {
		_, _ = os.Stderr.WriteString("pause: warning: not the first process; zombies go to another one\n")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	// A child may have ended before Notify was called.
	reap()
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap collects every child that has ended. One SIGCHLD may stand for several of them, so it asks until
// none is left.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}
