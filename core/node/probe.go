package node

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// The parts of a node's folder that may lie on a disk of their own.
const (
	Folder      = "."
	CertsPart   = "certs"
	SecretsPart = "credentials"
	ArgsPart    = "args"
	PluginsPart = "plugins"
	JournalPart = "var/journal"
	LogsPart    = "var/log"
)

// probes are what is read of each part to see whether it answers.
func probes(dir string) map[string][]string {
	in := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, filepath.Join(dir, n))
		}
		return out
	}
	return map[string][]string{
		Folder: in("settings.yaml", "node.json", "var/lock"), CertsPart: in("certs/server.crt"), SecretsPart: in("credentials/client.config"),
		ArgsPart: in("args/kubelet"), PluginsPart: in("plugins/lock.json"), JournalPart: in(JournalPart), LogsPart: in(LogsPart),
	}
}

// Probe lists the parts of the folder at dir that do not answer within limit.
//
// A thread that reads from a disk that is gone can keep its process from
// ending, even from being killed: the shell would wait for it. So others read,
// and are left behind where they hang: one cat for all, and where that one
// hangs, one for each part.
func Probe(ctx context.Context, dir string, limit time.Duration) []string {
	all, files := probes(dir), []string{}
	for _, names := range all {
		files = append(files, names...)
	}
	if reads(ctx, limit*3/5, files) {
		return nil
	}
	var (
		silent []string
		lock   sync.Mutex
		wait   sync.WaitGroup
	)
	for part, names := range all {
		wait.Go(func() {
			if !reads(ctx, limit*2/5, names) {
				lock.Lock()
				silent = append(silent, part)
				lock.Unlock()
			}
		})
	}
	wait.Wait()
	return silent
}

// reads reports whether files can be read, or are not there, within limit.
// Where it cannot be found out, they count as readable.
func reads(ctx context.Context, limit time.Duration, files []string) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.Command("cat", append([]string{"--"}, files...)...)           //nolint:noctx // its end is not waited for
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"} // it reads two dozen files to speak another language
	if err := cmd.Start(); err != nil {
		return true
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return false
	}
}
