package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// MajorityAlive is the reason of a refusal: the others may go on without this
// node, and there would be two clusters.
const MajorityAlive plugin.Reason = "MAJORITY_ALIVE"

// Prospect is what a recovery would do.
type Prospect struct {
	Keeps string   `json:"keeps"` // this node
	Loses []string `json:"loses"` // members that do not answer
}

// Consider says what a recovery from this node's data would do. It refuses
// while a majority of the members may be alive. It changes nothing.
func (n Node) Consider(ctx context.Context) (*Prospect, error) {
	if err := errors.Join(n.voter("mk datastore recover"), n.Outdated()); err != nil {
		return nil, err
	}
	members, err := n.members(ctx)
	if err != nil {
		return nil, err
	}
	p := &Prospect{Keeps: n.Record.Name, Loses: []string{}}
	voters, alive := 0, []string{n.Record.Name}
	for i := range members {
		m := &members[i]
		if m.Role != datastore.Voter {
			continue
		}
		if voters++; m.Host() == n.Record.Address {
			continue
		}
		p.Loses = append(p.Loses, m.Label())
		if m.Answers || n.answers(ctx, m.Host()) {
			alive = append(alive, m.Label())
		}
	}
	if len(alive) > voters/2 {
		e := &plugin.Error{Reason: MajorityAlive, Message: fmt.Sprintf("%d of %d members may be alive: the datastore needs no recovery", len(alive), voters)}
		if voters == 1 {
			e.Next = "mk datastore status; where it is damaged: mk datastore snapshot restore, with one of mk datastore snapshot list"
		} else {
			e.Next = "bring them back, it heals by itself; where they are gone for good, take their machines off the network first"
		}
		return nil, e
	}
	return p, nil
}

// members are those that this node's datastore knows: asked where it runs,
// else read from its files.
func (n Node) members(ctx context.Context) ([]datastore.Member, error) {
	s, err := n.status(ctx)
	if err == nil && s.Quorum && len(s.Members) == 1 {
		return nil, &plugin.Error{Reason: MajorityAlive, Message: "the datastore works: it needs no recovery", Next: "mk datastore status"}
	}
	if err == nil {
		return s.Members, nil
	}
	return n.membersInFiles(ctx)
}

// membersInFiles are those that the files of this node's datastore know.
func (n Node) membersInFiles(ctx context.Context) ([]datastore.Member, error) {
	work, done, err := n.scratch()
	if err != nil {
		return nil, err
	}
	found, err := n.tool().Members(ctx, n.Root.Path(data), n.Root.Path(work))
	return found, errors.Join(err, done())
}

const dialLimit = 3 * time.Second

// answers reports whether anything of a node accepts a connection at an
// address: its agent, its API server, its datastore.
func (n Node) answers(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	net0 := n.Record.Network
	found := make(chan bool, 4)
	var wg sync.WaitGroup
	for _, port := range []int{net0.AgentPort, net0.APIPort, peerPort, clientPort} {
		wg.Go(func() {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err == nil {
				found <- true
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	return len(found) > 0
}

// etcd's ports, as clustering strategies of mk use them.
const (
	peerPort   = 2380
	clientPort = 12379
)

// made is what a new datastore is made from.
type made struct {
	// source writes etcd's snapshot to a file; it is asked once.
	source func(ctx context.Context, to, scratch string) error
	why    string
}

// Recover goes on with this node's data alone. The caller has asked a person:
// what only the lost members held is lost. One that was interrupted is gone on
// with.
func (n Node) Recover(ctx context.Context) error {
	open, err := n.Journal.Open()
	if err != nil {
		return err
	}
	if open == nil || open.Verb != operation.RecoverVerb {
		if _, err := n.Consider(ctx); err != nil {
			return err
		}
	}
	r, err := n.Journal.Begin(ctx, operation.RecoverVerb, nil)
	if err != nil {
		return err
	}
	if open != nil && open.Verb == operation.RecoverVerb && !r.Resumed {
		return meanwhile(r) // nobody has considered and agreed to this one
	}
	return r.End(ctx, n.remake(ctx, r, made{why: "recover", source: func(ctx context.Context, to, scratch string) error {
		_, err := n.tool().Rescue(ctx, n.Root.Path(data), n.Record.Name, n.Root.Path(to), n.Root.Path(scratch))
		return err
	}}))
}

// remake puts a datastore with a new identity in the place of this node's.
func (n Node) remake(ctx context.Context, r *operation.Run, m made) error {
	work := "var/recover"
	fresh, aside := data+".new", data+".before-"+strconv.Itoa(r.Record.Number)
	return n.finish(ctx, r, work, []step{
		{"save the datastore as it is", func(ctx context.Context) error {
			if _, err := n.Save(ctx, SaveOptions{Why: m.why}); err != nil {
				n.detail(fmt.Sprintf("left out, the old data stay as they are: %v", err))
			}
			return nil
		}},
		{"stop Kubernetes and the datastore", func(ctx context.Context) error {
			return n.Services().Stop(ctx, "kubelite", "etcd")
		}},
		{"make a datastore with a new identity", func(ctx context.Context) error {
			err := errors.Join(n.Root.RemoveAll(work), n.Root.RemoveAll(fresh))
			if err == nil {
				err = n.Root.MkdirAll(work, privateFolder())
			}
			if err != nil {
				return err
			}
			if err := m.source(ctx, work+"/db", work); err != nil {
				return err
			}
			id, err := n.newIdentity(r.Record.ID)
			if err != nil {
				return err
			}
			return n.tool().Make(ctx, n.Root.Path(work, "db"), n.Root.Path(fresh), id)
		}},
		{"keep the old data aside", func(context.Context) error { return n.exchange(fresh, aside) }},
		{"write the new identity", func(ctx context.Context) error { return n.reidentify(ctx, r) }},
	}, operation.StartOptions{})
}

// step is one of an operation.
type step struct {
	name string
	do   func(context.Context) error
}

// finish takes steps, starts the node on the data that they made, and removes
// what it worked in.
func (n Node) finish(ctx context.Context, r *operation.Run, work string, steps []step, o operation.StartOptions) error {
	for _, s := range append(steps,
		step{"prepare for the pods", n.PreparePods},
		step{"start the services", func(ctx context.Context) error { return n.StartServices(ctx, o) }},
		step{"let this node in", n.UnbarSelf},
	) {
		if err := r.Step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	// An error ends this, and nobody else would forget them.
	err := errors.Join(n.BecomeReady(ctx, r), r.Step(ctx, "forget the nodes that are lost", n.forgetLost))
	return errors.Join(err, n.Root.RemoveAll(work))
}

// exchange puts the new data in the place of the old ones. Any part of it may
// have been done before.
func (n Node) exchange(fresh, aside string) error {
	if _, err := n.Root.Lstat(fresh); errors.Is(err, fs.ErrNotExist) {
		return nil // it was the last thing
	}
	if _, err := n.Root.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
		if err := n.Root.Rename(data, aside); err != nil {
			return err
		}
	}
	return n.Root.Rename(fresh, data)
}

// newIdentity is this node as the only member of a cluster that never was.
func (n Node) newIdentity(token string) (datastore.Identity, error) {
	file, err := args.Load(n.Root.Args("etcd"))
	if err != nil {
		return datastore.Identity{}, err
	}
	url, ok := file.Get("initial-advertise-peer-urls")
	if !ok {
		return datastore.Identity{}, fmt.Errorf("%s does not say where peers find this node", n.Root.Args("etcd"))
	}
	return datastore.Identity{Name: n.Record.Name, Peer: url, Token: token}, nil
}

// reidentify writes what the datastore now is into its arguments, and counts.
func (n Node) reidentify(ctx context.Context, r *operation.Run) error {
	id, err := n.newIdentity(r.Record.ID)
	if err != nil {
		return err
	}
	var cs changeset.ChangeSet
	for _, o := range [][2]string{{"initial-cluster", id.Name + "=" + id.Peer}, {"initial-cluster-token", id.Token}, {"initial-cluster-state", "new"}} {
		cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.SetArgument{Service: "etcd", Option: o[0], Value: &o[1]}})
	}
	if err := r.Apply(ctx, cs); err != nil {
		return err
	}
	return n.count(r.Record.ID)
}

// count makes this the newest identity of the cluster, once for an operation.
func (n Node) count(operationID string) error {
	i, err := n.identity()
	if err != nil || i.Operation == operationID {
		return err
	}
	i.Recoveries++
	i.Operation, i.By, i.At = operationID, n.Record.Name, n.Now().UTC().Truncate(time.Second)
	return n.saveIdentity(i)
}

// forgetLost removes the objects and records of the control plane's other
// nodes, and remembers where they may come back.
func (n Node) forgetLost(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	all, err := n.Members(ctx)
	if err != nil {
		return err
	}
	i, err := n.identity()
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Name == n.Record.Name || m.Role != string(node.ControlPlane) {
			continue
		}
		if !slices.ContainsFunc(i.Lost, func(l lost) bool { return l.Name == m.Name }) {
			i.Lost = append(i.Lost, lost{Name: m.Name, Agent: m.Agent()})
		}
	}
	// A snapshot may say so of the node that it is restored on.
	i.Lost = slices.DeleteFunc(i.Lost, func(l lost) bool { return l.Name == n.Record.Name })
	// Noted first: who is forgotten is not found again.
	if err := n.saveIdentity(i); err != nil {
		return err
	}
	var errs []error
	for _, l := range i.Lost {
		n.detail("forget " + l.Name)
		errs = append(errs, n.ForgetNode(ctx, l.Name))
	}
	return errors.Join(errs...)
}
