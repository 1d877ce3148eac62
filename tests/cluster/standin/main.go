// Command standin stands for the programs of a node that no join and no leave
// is about, so that a test can kill mk at each record of its journal in
// minutes. It is called by the name of the program that it stands for.
//
// kubelite is an API server that keeps objects in the node's real etcd, and a
// kubelet that registers its node and is Ready at once; containerd has its
// socket; flanneld only runs. What is real is passed on to kubelite.real: etcd
// and the work on its files. Not guaranteed, because nothing of it is asked
// here: authorization, validation, pods, field managers.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"mk8s.io/mk/core/args"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, filepath.Base(os.Args[0]), os.Args[1:])
	stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, words []string) error {
	switch name {
	case "containerd":
		return containerd(ctx, words)
	case "flanneld":
		<-ctx.Done()
		return nil
	case "objects": // what is stored, for the test
		return objects(ctx, words[0])
	case "etcd":
		return real(ctx, append([]string{"etcd"}, words...))
	}
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		if words[0] == "objects" {
			return objects(ctx, words[1])
		}
		return real(ctx, words)
	}
	return kubelite(ctx, words)
}

// real runs the program that is not stood for. It ends with this one, however
// that ends.
func real(ctx context.Context, words []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the child's end is bound to this thread's
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "kubelite.real"), words...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// containerd accepts connections where its configuration says, and no more.
func containerd(ctx context.Context, words []string) error {
	o, err := options(words)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(o["config"])
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(config), "  address = '")
	socket, _, _ := strings.Cut(rest, "'")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	hangUp(ctx, l)
	return nil
}

// hangUp accepts connections and ends them, until ctx ends.
func hangUp(ctx context.Context, l net.Listener) {
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// options are those of a command line.
func options(words []string) (map[string]string, error) {
	out := map[string]string{}
	for _, w := range words {
		name, value, ok := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		if !ok {
			return nil, fmt.Errorf("the option %q has no value", w)
		}
		out[name] = value
	}
	return out, nil
}

// optionsIn are those of an args file.
func optionsIn(path string) (map[string]string, error) {
	f, err := args.Load(path)
	if err != nil {
		return nil, err
	}
	return options(f.Argv())
}

// kubelite runs an API server on a control-plane node, and a kubelet.
func kubelite(ctx context.Context, words []string) error {
	o, err := options(words)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	if file := o["apiserver-args-file"]; file != "" {
		s, err := newServer(file)
		if err != nil {
			return err
		}
		go func() {
			defer close(ended)
			cancel(s.run(ctx))
		}()
	} else {
		close(ended)
	}
	if err := kubelet(ctx, o["kubelet-args-file"], o["apiserver-args-file"] != ""); err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	<-ended
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
