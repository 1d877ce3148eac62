package operation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/remains"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/process"
	"mk8s.io/mk/core/service/supervisor"
	"mk8s.io/mk/core/timer"
)

// stopTimeout bounds a stop: services have 40 s each, most of them at once.
const stopTimeout = 3 * time.Minute

// stoppedLock tells people and tools that the node is stopped.
const stoppedLock = "var/lock/stopped.lock"

// ErrStopped says that a node was stopped, and is to be started first.
var ErrStopped = errors.New("it was stopped")

// StopOptions are what a stop may be told.
type StopOptions struct {
	Drain bool `json:"drain,omitempty"` // move pods elsewhere first
}

// Stop stops the node and leaves nothing of it running. Its data stay: the
// next start brings the same pods back.
func (n *Node) Stop(ctx context.Context, o StopOptions) error {
	r, err := n.Journal.Begin(ctx, "stop", o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return r.End(ctx, n.stop(ctx, r, o))
}

func (n *Node) stop(ctx context.Context, r *Run, o StopOptions) error {
	if o.Drain {
		if err := r.Step(ctx, "drain the node", n.drain); err != nil {
			return err
		}
	}
	// Said before it is done: a stop that is killed is still a stop.
	if !n.Record.Stopped {
		n.Record.Stopped, n.Record.StoppedAt = true, n.Now().UTC()
		if err := n.Root.SaveRecord(n.Record); err != nil {
			return err
		}
	}
	if err := n.Root.WriteFile(stoppedLock, nil, n.Root.Public()); err != nil {
		return err
	}
	if err := r.Step(ctx, "stop the services", n.StopServices); err != nil {
		return err
	}
	return r.Step(ctx, "remove what pods left", n.ClearRemains)
}

// drain moves this node's pods elsewhere. The next start takes the node back in
// use, unless somebody had cordoned it before.
func (n *Node) drain(ctx context.Context) error {
	c, err := n.Kube()
	if err != nil {
		return err
	}
	object, err := c.Node(ctx, n.Record.Name)
	if err != nil {
		return err
	}
	// Noted before: a drain may be killed.
	if err := n.noteDrained(n.Record.Drained || !object.Unschedulable); err != nil {
		return err
	}
	if n.Record.Role == node.Worker { // it may not look for the owners of pods
		var agents []string
		if agents, err = n.Agents(); err == nil {
			err = n.AskAgents(ctx, agents, peer.DrainPath, peer.Leave{Node: n.Record.Name}, nil)
		}
	} else {
		err = c.Drain(ctx, n.Record.Name, kube.DrainOptions{Program: n.Programs.Bin(defaults.Kubelite)}, n.detail)
	}
	if err != nil { // it is to be in use, also where an earlier try has cordoned it
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		err = errors.Join(err, n.takePods(back))
	}
	return err
}

func (n *Node) noteDrained(drained bool) error {
	n.Record.Drained = drained
	return n.Root.SaveRecord(n.Record)
}

// takePods has the node take pods again where a stop has cordoned it: by its
// kubelet, which may change its own node.
func (n *Node) takePods(ctx context.Context) error {
	if !n.Record.Drained {
		return nil
	}
	c, err := kube.ConnectFile(n.Root.Credentials("kubelet.config"), kube.Options{Version: n.Version})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Uncordon(ctx, n.Record.Name); err != nil {
		return err
	}
	return n.noteDrained(false)
}

// StopServices stops all services and, where it is mk's own, their supervisor.
func (n *Node) StopServices(ctx context.Context) error {
	if s, ok := n.services.(*supervisor.Client); ok {
		if _, err := n.awaitSupervisor(ctx, s); err != nil {
			return err
		}
	}
	if err := notRunning(n.services.Stop(ctx)); err != nil {
		return err
	}
	if err := (&serviceChanges{n}).Boot(ctx, false, n.serviceNames()...); err != nil {
		return err
	}
	s, ok := n.services.(*supervisor.Client)
	if !ok {
		return nil
	}
	for {
		there, err := n.awaitSupervisor(ctx, s)
		if err != nil || !there {
			return err
		}
		own, err := endSupervisor(ctx, s)
		if err != nil || own {
			return err
		}
		// Another one may have waited for its place.
	}
}

// endSupervisor has the supervisor end, and its process: the agent in it may be
// at something when it is told to. It reports whether that is this one.
func endSupervisor(ctx context.Context, s *supervisor.Client) (own bool, err error) {
	p, err := s.Process(ctx)
	if errors.Is(err, service.ErrNotRunning) || errors.Is(err, process.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer p.Close() //nolint:errcheck // only watched
	if err := notRunning(s.Handover(ctx)); err != nil {
		return false, err
	}
	return p.ID.PID == os.Getpid(), waitGone(ctx, s, p)
}

// awaitSupervisor waits for a supervisor that was started and does not answer
// yet: whoever started it was killed. Not waited for, it would come up behind
// the stop, and stay. One that neither answers nor ends is killed.
func (n *Node) awaitSupervisor(ctx context.Context, s *supervisor.Client) (there bool, err error) {
	patient, cancel := context.WithTimeout(ctx, startingLimit)
	defer cancel()
	for {
		if _, err := s.Status(patient); err == nil || !errors.Is(err, service.ErrNotRunning) {
			return true, nil //nolint:nilerr // it is there
		}
		id, found := process.FindLeader(n.Executable, n.Root.Logs("mk"))
		if !found || id.PID == os.Getpid() {
			return false, nil
		}
		if !timer.Wait(patient, 20*time.Millisecond) {
			return false, killSilent(ctx, id)
		}
	}
}

func killSilent(ctx context.Context, id process.ID) error {
	p, err := process.Open(id)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // only watched
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("wait for the supervisor, process %d, to end: %w", id.PID, err)
	}
	return nil
}

// startingLimit is longer than a supervisor takes to answer or to end.
const startingLimit = 10 * time.Second

// supervisorLimit is how long the supervisor's process may take to end after
// it has let go of its socket. Then it is killed: what the agent in it is at
// can be, and nothing of the node runs any more.
const supervisorLimit = 3 * time.Second

// waitGone waits until the supervisor has let go of its socket, and until its
// process has ended, unless that is this one.
func waitGone(ctx context.Context, s *supervisor.Client, p *process.Process) error {
	if err := waitSocket(ctx, s); err != nil || p.ID.PID == os.Getpid() {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, supervisorLimit)
	defer cancel()
	if p.Wait(patient) == nil {
		return nil
	}
	return killSilent(ctx, p.ID)
}

func waitSocket(ctx context.Context, s *supervisor.Client) error {
	for {
		if _, err := s.Status(ctx); errors.Is(err, service.ErrNotRunning) {
			return nil
		}
		if !timer.Wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("wait for the supervisor to end: %w", ctx.Err())
		}
	}
}

// ClearRemains removes what pods leave on the machine.
func (n *Node) ClearRemains(ctx context.Context) error {
	d := n.Defaults()
	return remains.Clear(ctx, remains.Node{
		Shim: n.Programs.Bin("containerd-shim-runc-v2"), Socket: d.ContainerdSocket(), Cgroup: n.Root.CgroupRoot(),
		Runc: n.Root.RunDir("runc"), Systemd: n.Machine.Systemd,
		Folders: []string{n.Root.RunDir(), n.Root.Path("var/lib")},
		Links:   ownLinks(),
	})
}

// ClearMachine takes from the machine what the node made outside its folder.
// The services do not run.
func (n *Node) ClearMachine(ctx context.Context) error {
	if err := n.ClearRemains(ctx); err != nil {
		return err
	}
	return n.clearElsewhere()
}

func ownLinks() []string { return []string{defaults.Bridge, "flannel.1", "flannel-v6.1"} }

// clearElsewhere is ClearMachine for what carries the node's own name, and so
// is its where no node is any more.
func (n *Node) clearElsewhere() error {
	if err := n.kernel().Restore(); err != nil {
		n.detail(err.Error()) // nothing that keeps a node from going
	}
	return remains.NewElsewhere(n.Root).Remove()
}

// ShowKernel shows other nodes of this machine that this one relies on what the
// kernel is set to.
func (n *Node) ShowKernel() error { return n.kernel().Note() }

func (n *Node) kernel() remains.Kernel { return remains.NewKernel(n.Root, ownLinks()...) }

// Restart restarts services; without names all of them. A node that was
// stopped stays so: the error is ErrStopped. It returns when they
// were started: AwaitWell waits until the node works with them.
func (n *Node) Restart(ctx context.Context, names ...string) error {
	if err := n.Outdated(); err != nil {
		return err
	}
	if err := n.checkEdited(); err != nil {
		return err
	}
	if n.Record.Stopped {
		return ErrStopped
	}
	r, err := n.Journal.Begin(ctx, "restart", names)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, "restart", func(ctx context.Context) error {
		if n.Record.Stopped {
			return ErrStopped
		}
		if err := n.ensureManager(ctx); err != nil {
			return err
		}
		if err := n.followRequests(ctx, r); err != nil {
			return err
		}
		if err := n.refreshServices(ctx); err != nil {
			return err
		}
		var services []string
		for _, name := range names {
			services = append(services, service.Alias(name))
		}
		if len(services) == 0 {
			services = n.serviceNames()
		}
		n.restarting(services...)
		return n.services.Restart(ctx, services...)
	}))
}
