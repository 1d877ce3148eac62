package defaults

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
)

// Names of the services, in the order in which they start.
const (
	Containerd = "containerd"
	Etcd       = "etcd"
	Kubelite   = "kubelite"
	Flanneld   = "flanneld"
	Proxy      = "apiserver-proxy"
	Agent      = "cluster-agent"
)

// ServiceNames are the services that a node of a role runs.
func ServiceNames(role node.Role) []string {
	if role == node.Worker {
		return []string{Containerd, Proxy, Kubelite, Flanneld, Agent}
	}
	return []string{Containerd, Etcd, Kubelite, Flanneld, Agent}
}

// ServicesOf are the services of a node.
func ServicesOf(r *node.Record) []string {
	return slices.DeleteFunc(ServiceNames(r.Role), func(s string) bool { return s == Etcd && r.NoVote })
}

// Definitions are the services as the args files on disk have them. mk is the
// program that runs the agent.
func (n Node) Definitions(mk string) ([]service.Definition, error) {
	path := "PATH=" + filepath.Dir(n.Programs.Bin("x")) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	env := []string{path, "HOME=/root", "LANG=C.UTF-8"}
	var defs []service.Definition
	for _, name := range ServicesOf(n.Record) {
		d := service.Definition{Name: name, Dir: n.Root.Dir(), Env: env, LimitNOFILE: 1 << 20}
		var err error
		switch name {
		case Containerd:
			d.Description, d.Path = "containerd of mk", n.Programs.Bin("containerd")
			d.SecretEnv = n.Proxy // with the password, where it needs one
			d.Argv, err = n.argv(d.Path, Containerd)
			d.Ready = service.Ready{Unix: n.ContainerdSocket()}
			d.KillMode, d.Delegate, d.OOMScoreAdjust = service.KillProcess, true, -999
		case Etcd:
			d.Description, d.Path = "datastore of mk", n.Programs.Bin("kubelite")
			d.Argv = []string{"etcd", "--args-file=" + n.Root.Args(Etcd)}
			d.Ready = service.Ready{TCP: "127.0.0.1:12379"}
			d.OOMScoreAdjust = -999
		case Kubelite:
			d.Description, d.Path = "Kubernetes of mk", n.Programs.Bin("kubelite")
			d.Argv, err = n.argv("kubelite", Kubelite)
			d.After = []string{Containerd, Etcd, Proxy}
			d.Patient = true
			d.Delegate, d.OOMScoreAdjust = true, -999
		case Flanneld:
			d.Description, d.Path = "pod network of mk", n.Programs.Bin("flanneld")
			d.Argv, err = n.argv("flanneld", Flanneld)
			d.Env = append(d.Env[:len(d.Env):len(d.Env)], "NODE_NAME="+n.Record.Name)
			d.After, d.Patient = []string{Kubelite}, true // it asks for the node until it is there
		case Proxy:
			// A process of its own: it outlives the agent.
			d.Description, d.Path = "way of mk to the API servers", mk
			d.Argv = []string{"mk", "--root=" + n.Root.Dir(), "apiserver-proxy"}
			d.Ready, err = n.proxyReady()
			d.OOMScoreAdjust = -999
		case Agent:
			d.Description, d.Path = "agent of mk", mk
			d.Argv = []string{"mk", "--root=" + n.Root.Dir(), "agent"}
			d.After = []string{Kubelite}
			d.KillMode = service.KillProcess // a stop that a marker file asked for runs below it
		}
		if err != nil {
			return nil, err
		}
		d.StopTimeout = 40 * time.Second
		defs = append(defs, d)
	}
	return defs, nil
}

// proxyReady is where a worker's way to the API servers listens.
func (n Node) proxyReady() (service.Ready, error) {
	f, err := args.Load(n.Root.Args(Proxy))
	if err != nil {
		return service.Ready{}, fmt.Errorf("arguments of %s: %w", Proxy, err)
	}
	listen, ok := f.Get("listen")
	if !ok {
		listen = n.proxyListen()
	}
	return service.Ready{TCP: listen}, nil
}

func (n Node) argv(program, name string) ([]string, error) {
	f, err := args.Load(n.Root.Args(name))
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", name, err)
	}
	return append([]string{filepath.Base(program)}, f.Argv()...), nil
}
