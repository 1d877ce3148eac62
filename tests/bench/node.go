package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mk8s.io/mk/tests/machine"
)

// node starts real nodes: how long that takes, and what of mk runs on beside
// Kubernetes.
func (b *bench) node(ctx context.Context) (rows []row, err error) {
	values := make([][]float64, 4)
	// A datastore of one elects itself after 0.1 to 1 s, each as likely as the
	// other: of such values a mean says more than a median.
	for i := range b.times(12, 1) {
		n, err := b.newNode(ctx, 60+i)
		if err != nil {
			return rows, err
		}
		got, err := n.starts(ctx)
		if err == nil && i == 0 {
			rows, err = n.life(ctx)
		}
		if err = errors.Join(err, n.close(ctx)); err != nil {
			return rows, err
		}
		for k, v := range got {
			values[k] = append(values[k], v)
		}
	}
	m := means(values)
	seconds := func(v float64) string { return fmt.Sprintf("%.3g s", v) }
	return append([]row{
		{what: "first mk start to /readyz", ours: seconds(m[0]), peer: seconds(m[1]) + ", a script", value: m[0] / m[1], unit: "x", aim: 1.1},
		{what: "later mk start to /readyz", ours: seconds(m[2]), peer: seconds(m[3]) + ", a script", value: m[2] / m[3], unit: "x", aim: 1.1},
	}, rows...), nil
}

// benchNode is a node on a machine of its own.
type benchNode struct {
	*machine.Machine
	b   *bench
	dir string
}

func (b *bench) newNode(ctx context.Context, number int) (*benchNode, error) {
	dir, err := machine.Folder()
	if err != nil {
		return nil, err
	}
	m, err := machine.New(ctx, b.out, dir, number, true)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &benchNode{Machine: m, b: b, dir: dir}, nil
}

func (n *benchNode) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
	defer cancel()
	var err error
	if n.Started() {
		_, err = n.Try(ctx, 3*time.Minute, "mk", "reset", "--all", "--yes")
	}
	return errors.Join(err, n.Close(ctx), os.RemoveAll(n.dir))
}

// starts measures the first start of a node and a later one, and, with the
// same programs, arguments and certificates, the same of a plain script. It
// leaves the node running.
func (n *benchNode) starts(ctx context.Context) ([]float64, error) {
	n.b.say("the first start of a node, and a script's")
	first, err := n.mkStart(ctx)
	if err != nil {
		return nil, err
	}
	script, err := n.script(ctx, "12379", "containerd", "etcd", "kubelite")
	if err != nil {
		return nil, err
	}
	const data = "var/kubernetes/backend/etcd"
	aside := filepath.Join(n.Root, data+".aside")
	if err := os.Rename(filepath.Join(n.Root, data), aside); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(n.Root, data), 0o700); err != nil {
		return nil, err
	}
	scriptFirst, err := n.scriptStart(ctx, script)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(n.Root, data)), os.Rename(aside, filepath.Join(n.Root, data))); err != nil {
		return nil, err
	}
	n.b.say("a later start of a node, and a script's")
	scriptLater, err := n.scriptStart(ctx, script)
	if err != nil {
		return nil, err
	}
	later, err := n.mkStart(ctx)
	return []float64{first, scriptFirst, later, scriptLater}, err
}

// mkStart answers the seconds from mk start to /readyz; it returns when mk
// does, with the node Ready.
func (n *benchNode) mkStart(ctx context.Context) (float64, error) {
	return n.timed(ctx, n.Command(ctx, "mk", "start", "--name", "bench"), n.readyz(), (*exec.Cmd).Wait)
}

// scriptStart answers the seconds from the script to /readyz, and ends it.
func (n *benchNode) scriptStart(ctx context.Context, script string) (float64, error) {
	return n.scriptUntil(ctx, script, n.readyz())
}

// scriptUntil answers the seconds from the script until all is ready.
func (n *benchNode) scriptUntil(ctx context.Context, script string, ready func(context.Context) bool) (float64, error) {
	cmd := n.Command(ctx, "bash", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	took, err := n.timed(ctx, cmd, ready, func(cmd *exec.Cmd) error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait() // it was ended
		ending, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return errors.Join(err, until(ending, 50*time.Millisecond, n.ended))
	})
	// What containerd and the kubelet left goes as after mk.
	_, stop := n.Try(ctx, time.Minute, "mk", "stop")
	return took, errors.Join(err, stop)
}

// ended reports whether none of the script's programs runs any more.
func (n *benchNode) ended() bool {
	all, err := n.processes()
	return err == nil && !slices.ContainsFunc(all, func(p process) bool {
		return slices.Contains([]string{"containerd", "etcd", "kubelite", "flanneld", "mk apiserver-proxy"}, p.name)
	})
}

// timed starts a command and answers the seconds until all is ready; then it
// ends the command.
func (n *benchNode) timed(ctx context.Context, cmd *exec.Cmd, ready func(context.Context) bool, end func(*exec.Cmd) error) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	log, err := os.Create(filepath.Join(n.dir, "start.log"))
	if err != nil {
		return 0, err
	}
	defer log.Close() //nolint:errcheck // only read back
	cmd.Stdout, cmd.Stderr = log, log
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = until(ctx, 5*time.Millisecond, func() bool { return ready(ctx) })
	took := time.Since(begun).Seconds()
	if err = errors.Join(err, end(cmd)); err != nil {
		said, _ := os.ReadFile(log.Name())
		return 0, fmt.Errorf("%s: %w\n%s\n%s%s", strings.Join(cmd.Args, " "), err, said, n.Logs(), machine.Ends(filepath.Join(n.dir, "*.out")))
	}
	return took, nil
}

// until waits for a condition.
func until(ctx context.Context, every time.Duration, holds func() bool) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// script writes what starts the node's programs as they run now, without mk,
// and stops the node. Kubelite is started when somebody listens on the port, on
// loopback: it would try again only after a second.
func (n *benchNode) script(ctx context.Context, port string, programs ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "cd %s\nmkdir -p /run/mk/%s\n", n.Root, n.ID())
	// What the kubelet wants of a machine without systemd.
	fmt.Fprintf(&b, `for h in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ -f $h/cgroup.procs ] || continue
	mkdir -p $h/mk/%[1]s
	for f in cpuset.cpus cpuset.mems; do for d in mk mk/%[1]s; do [ ! -f $h/$f ] || cat $h/$f >$h/$d/$f; done; done
	if [ -f $h/cgroup.subtree_control ]; then for d in . mk; do for c in $(cat $h/$d/cgroup.controllers); do echo +$c >$h/$d/cgroup.subtree_control || true; done; done; fi
done
`, n.ID())
	all, err := n.processes()
	if err != nil {
		return "", err
	}
	for _, name := range programs {
		at := slices.IndexFunc(all, func(p process) bool { return p.name == name })
		if at < 0 {
			return "", fmt.Errorf("%s does not run", name)
		}
		if name == "kubelite" {
			fmt.Fprintf(&b, "until (: </dev/tcp/127.0.0.1/%s) 2>/dev/null; do sleep 0.01; done\n", port)
		}
		line, err := commandLine(all[at])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s >%s 2>&1 &\n", line, filepath.Join(n.dir, strings.ReplaceAll(name, " ", "-")+".out"))
	}
	b.WriteString("wait\n")
	file := filepath.Join(n.dir, "start.sh")
	if err := os.WriteFile(file, []byte(b.String()), 0o700); err != nil {
		return "", err
	}
	_, err = n.Try(ctx, time.Minute, "mk", "stop")
	return file, err
}

// commandLine starts the program of a process again, as it was started.
func commandLine(p process) (string, error) {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
	if err != nil {
		return "", err
	}
	words := []string{"env", "-i"}
	for _, v := range strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00") {
		words = append(words, quoted(v))
	}
	words = append(words, "bash", "-c", quoted(`exec -a "$0" "$@"`), quoted(p.argv[0]), quoted(p.exe))
	for _, word := range p.argv[1:] {
		words = append(words, quoted(word))
	}
	return strings.Join(words, " "), nil
}

func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
