package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// killer kills the agent of its node where a test says, counted in what mk
// writes through this API server: the agent's own records are few, and what it
// does for others is mostly such writes. <root>.crash-write holds before:N or
// after:N, or anything else to have writes noted in <root>.crash-write.log
// only; it is gone before the agent is.
type killer struct {
	root string
	mu   sync.Mutex
	told time.Time
	seen int
}

// writes reports whether a request of mk changes something.
func writes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" && strings.HasPrefix(r.UserAgent(), "mk/")
}

// around does one write.
func (k *killer) around(r *http.Request, do func()) {
	file := k.root + ".crash-write"
	info, err := os.Stat(file)
	if err != nil || !writes(r) {
		do()
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !info.ModTime().Equal(k.told) {
		k.told, k.seen = info.ModTime(), 0
	}
	data, err := os.ReadFile(file)
	if err != nil { // the agent was just killed
		return
	}
	k.seen++
	k.note(file+".log", r)
	if string(data) == fmt.Sprintf("before:%d", k.seen) {
		k.kill(file)
		return
	}
	do()
	if string(data) == fmt.Sprintf("after:%d", k.seen) {
		k.kill(file)
	}
}

func (k *killer) note(file string, r *http.Request) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintln(f, k.seen, r.Method, r.URL.Path)
	_ = f.Close()
}

// kill ends the agent, and who waits for its answer learns nothing.
func (k *killer) kill(file string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		data, err := os.ReadFile(f)
		if err != nil || string(data) != "mk\x00--root="+k.root+"\x00daemon\x00" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err == nil {
			_ = os.Remove(file)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
