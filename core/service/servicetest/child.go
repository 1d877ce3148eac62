package servicetest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// behavior is the variable that makes a test binary the service under test.
const behavior = "MK_SERVICETEST"

// Behavior tells the child what to do, in this order.
type Behavior struct {
	Dump    string // writes what it was given (Dumped) to this file
	Print   string // writes this to standard error
	Crashes int    // ends with status 3 that many times, counted in CountIn
	CountIn string
	Fork    string // starts a child of its own that ignores SIGTERM, its number in this file
	Journal string // appends "<name> start" and "<name> stop"
	Listen  string // unix socket
	Deaf    bool   // ignores SIGTERM
}

// Dumped is what a child saw.
type Dumped struct {
	Args  []string `json:"args"`
	Env   []string `json:"env"`
	Dir   string   `json:"dir"`
	Files []string `json:"files"` // what is open, by number
	Limit uint64   `json:"limit"`
}

// RunChild must be called first in TestMain: in a process that the suite
// started as a service it does not return.
func RunChild() {
	raw, ok := os.LookupEnv(behavior)
	if !ok {
		return
	}
	var b Behavior
	if err := json.Unmarshal([]byte(raw), &b); err != nil {
		panic(err)
	}
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (b Behavior) run() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	if b.Deaf {
		signal.Ignore(syscall.SIGTERM)
	}
	if err := b.dump(); err != nil {
		return err
	}
	if b.Print != "" {
		fmt.Fprintln(os.Stderr, b.Print)
	}
	if b.crashNow() {
		os.Exit(3)
	}
	if err := b.fork(); err != nil {
		return err
	}
	if b.Listen != "" {
		if err := os.RemoveAll(b.Listen); err != nil {
			return err
		}
		l, err := net.Listen("unix", b.Listen)
		if err != nil {
			return err
		}
		defer l.Close()
	}
	if err := b.note("start"); err != nil {
		return err
	}
	<-ended
	return b.note("stop")
}

func (b Behavior) note(what string) error {
	if b.Journal == "" {
		return nil
	}
	f, err := os.OpenFile(b.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s %s\n", filepath.Base(os.Args[0]), what)
	return err
}

func (b Behavior) crashNow() bool {
	if b.Crashes < 0 {
		return true
	}
	if b.Crashes == 0 {
		return false
	}
	raw, _ := os.ReadFile(b.CountIn)
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	if n >= b.Crashes {
		return false
	}
	return os.WriteFile(b.CountIn, []byte(strconv.Itoa(n+1)), 0o600) == nil
}

func (b Behavior) fork() error {
	if b.Fork == "" {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{behavior + `={"Deaf":true}`}
	if err := cmd.Start(); err != nil {
		return err
	}
	return os.WriteFile(b.Fork, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

func (b Behavior) dump() error {
	if b.Dump == "" {
		return nil
	}
	d := Dumped{Args: os.Args, Env: os.Environ()}
	d.Dir, _ = os.Getwd()
	out, err := os.Readlink("/proc/self/fd/1")
	if err != nil {
		return err
	}
	// A shell tells what else was inherited, and the soft limit: Go opens
	// files of its own and raises its limit.
	cmd := exec.Command("/bin/sh", "-c", "ulimit -n; for f in /proc/$$/fd/*; do readlink $f; done; true")
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	told, err := cmd.Output()
	if err != nil {
		return err
	}
	lines := strings.Fields(string(told))
	d.Limit, _ = strconv.ParseUint(lines[0], 10, 64)
	d.Files = lines[1:]
	if len(d.Files) > 1 {
		d.Files[1] = out // it is a pipe to us
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(b.Dump, raw, 0o600)
}
