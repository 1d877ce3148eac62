package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/hostrpc"
	"mk8s.io/mk/sdk/plugin"
)

// play is the main function of this binary in another role.
func play(role string) int {
	switch role {
	case "plugin":
		beforeServing(os.Getenv("AT_START"))
		sdk.Serve(&tester{})
	case "host":
		return playHost()
	case "dial":
		return playStranger()
	case "listen":
		return playListener()
	}
	return 2
}

func beforeServing(what string) {
	switch what {
	case "panic":
		panic("boom before serving")
	case "hang":
		waitForEver()
	case "exit":
		fmt.Fprintln(os.Stderr, "I do not like it here")
		os.Exit(3)
	case "log":
		for _, line := range oddLines() {
			_, _ = os.Stderr.WriteString(line + "\n")
		}
	}
}

// oddLines are what a plugin's log must not do harm with.
func oddLines() []string {
	return []string{
		`{"@message":5}`, `{"@message":"m","@level":7}`, `{"@level":"info","@message":"fine","@timestamp":[],"n":{"a":[1]}}`, `{"@message"`, `[]`, `{`,
		strings.Repeat("x", 1<<20), "bad \xff\xfe utf8", "a plain line at the start", "escape \x1b[2J done", `{"@level":"off","@message":"off"}`,
	}
}

// tester is a plugin that does what it is told.
type tester struct{ configured plugin.Configuration }

func (p *tester) Describe(context.Context) (plugin.Description, error) {
	d := plugin.Description{Identity: plugin.Identity{Kind: plugin.KindAddons, Name: "test", Version: "1.2.3"},
		Contracts: []string{plugin.Contract(plugin.KindAddons)}}
	switch os.Getenv("DESCRIBE") {
	case "contract":
		d.Contracts = []string{"mk.addons.v2"}
	case "none":
		d.Contracts = nil
	case "version":
		d.Identity.Version = "6.6.6"
	case "crash":
		crash("boom in describe")
	}
	return d, nil
}

// waitForEver waits for ever, in the kernel: a program without cgo whose goroutines
// all wait for each other would be ended by its runtime.
func waitForEver() {
	for {
		_ = unix.Pause()
	}
}

func crash(why string) {
	go func() { panic(why) }()
	waitForEver()
}

func (p *tester) Configure(_ context.Context, c plugin.Configuration) error {
	p.configured = c
	if os.Getenv("CONFIGURE") == "refuse" {
		return plugin.Errorf(plugin.BadArgument, "no such setting")
	}
	return nil
}
func (*tester) Health(context.Context) error              { return nil }
func (*tester) Forget(context.Context, plugin.Call) error { return nil }

func (*tester) List(context.Context) ([]addons.Addon, error) { return nil, nil }
func (*tester) Plan(context.Context, addons.PlanRequest) (plugin.Answer, error) {
	return plugin.Answer{}, nil
}
func (*tester) Probe(context.Context, string) ([]changeset.ObjectReference, error) { return nil, nil }

func (*tester) Export(context.Context, plugin.Call, []byte, []byte) (plugin.Sealed, error) {
	return plugin.Sealed{}, nil
}
func (*tester) Import(context.Context, plugin.Call, plugin.Sealed, []byte) error { return nil }

// PrepareImport does the deed that the operation's id names.
func (p *tester) PrepareImport(ctx context.Context, c plugin.Call) ([]byte, error) {
	deed, rest, _ := strings.Cut(c.OperationID, " ")
	switch deed {
	case "big":
		return make([]byte, 5<<20), nil
	case "panic":
		panic("boom in a handler")
	case "crash":
		crash("boom in the background")
	case "silent":
		os.Exit(0)
	case "never":
		waitForEver()
	case "log":
		fmt.Fprintln(os.Stderr, rest)
	case "child":
		return nil, child(rest, true)
	case "group-child":
		return nil, child(rest, false)
	case "facts":
		return json.Marshal(facts(p))
	case "open":
		f, err := os.Open(rest)
		if err == nil {
			return []byte("opened"), f.Close()
		}
		return []byte(err.Error()), nil
	case "write":
		return nil, os.WriteFile(rest, []byte("x"), 0o600)
	case "dial":
		conn, err := net.DialTimeout("tcp", rest, time.Second)
		if err != nil {
			return []byte(err.Error()), nil
		}
		return []byte("connected"), conn.Close()
	case "ask":
		h, err := sdk.Host()
		if err != nil {
			return nil, err
		}
		f, err := h.Read(ctx, rest)
		return f.Content, err
	case "ask-bare", "ask-much": // without what the sdk's client bounds
		conn, err := grpc.NewClient("unix:"+os.Getenv(host.SocketVariable), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		defer conn.Close() //nolint:errcheck // only asked
		if deed == "ask-much" {
			rest = strings.Repeat("x", 2<<20)
		}
		f, err := hostrpc.New(conn).Read(context.WithoutCancel(ctx), rest)
		return f.Content, err
	}
	return nil, nil
}

// child starts a process that ignores its parent's end and holds its pipes, and
// may leave the process group.
func child(marker string, leave bool) error {
	cmd := exec.Command("/bin/sh", "-c", "trap '' HUP INT TERM; while :; do sleep 1000; done", marker)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: leave}
	return cmd.Start()
}

// fact is what a plugin sees of its cell.
type fact struct {
	UID, GID, PID, Parent int
	Groups                []int
	NoNewPrivileges       int
	Env                   []string
	Dir                   string
	Input                 string
	Core, Files           uint64
	Up, Interfaces        []string
	Config                plugin.Configuration
	SetUID                string
}

func facts(p *tester) fact {
	f := fact{UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), Parent: os.Getppid(), Env: os.Environ(), Config: p.configured}
	f.Groups, _ = os.Getgroups()
	f.Dir, _ = os.Getwd()
	f.NoNewPrivileges, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	in, err := io.ReadAll(os.Stdin)
	f.Input = fmt.Sprint(string(in), err)
	var l unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &l)
	f.Core = l.Max
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	f.Files = l.Max
	all, _ := net.Interfaces()
	for _, i := range all {
		f.Interfaces = append(f.Interfaces, i.Name)
		if i.Flags&net.FlagUp != 0 {
			f.Up = append(f.Up, i.Name)
		}
	}
	f.SetUID = fmt.Sprint(syscall.Setuid(0))
	return f
}

// playHost is a host that will be killed: it says "ready" and waits.
func playHost() int {
	var s Spec
	if err := json.Unmarshal([]byte(os.Getenv("SPEC")), &s); err != nil {
		fmt.Println(err)
		return 1
	}
	h := New(Options{RunDir: os.Getenv("RUN"), Isolate: os.Getenv("ISOLATE") == "1"})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := h.Start(ctx, s)
	if err == nil && os.Getenv("CHILD") != "" {
		_, err = p.Exporter().PrepareImport(ctx, plugin.Call{OperationID: "child " + os.Getenv("CHILD")})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	waitForEver()
	return 0
}

// playStranger asks at a socket and says how that went.
func playStranger() int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	socket := os.Getenv("SOCKET")
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println("no way in:", errors.Is(err, os.ErrPermission), err)
		return 0
	}
	_ = conn.Close()
	opts := append(client.DialOptions(nil), grpc.WithTransportCredentials(insecure.NewCredentials()))
	c, err := grpc.NewClient("unix:"+socket, opts...)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv("ASK") == "host" {
		_, err = hostrpc.New(c).Read(ctx, "x")
	} else {
		_, err = client.New(c).Plugin().Describe(ctx)
	}
	if client.Lost(err) {
		fmt.Println("cut off:", err)
	} else {
		fmt.Println("answered:", err)
	}
	return 0
}

// playListener serves the same as a plugin, as somebody else.
func playListener() int {
	l, err := net.Listen("unix", os.Getenv("SOCKET"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	var all sync.WaitGroup
	for {
		conn, err := l.Accept()
		if err != nil {
			return 1
		}
		all.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	}
}
