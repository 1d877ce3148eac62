package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
)

// identityFile says how often the cluster was recovered or restored, and which
// nodes were lost with it. Nodes compare it.
const identityFile = operation.IdentityFile

// identity is the content of identityFile.
type identity struct {
	peer.Identity

	Lost []lost `json:"lost,omitempty"`
}

// lost is a control-plane node that a recovery went on without. It may come
// back with the old data.
type lost struct {
	Name  string `json:"name"`
	Agent string `json:"agent"`
}

const maxIdentity = 1 << 20

func (n Node) identity() (identity, error) {
	var i identity
	file, err := n.Root.ReadFile(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{Identity: peer.Identity{ClusterID: n.Record.ClusterID}}, nil
	}
	if err != nil {
		return i, err
	}
	if len(file) > maxIdentity {
		return i, fmt.Errorf("%s is larger than %d bytes", n.Root.Path(identityFile), maxIdentity)
	}
	if err := json.Unmarshal(file, &i); err != nil {
		return i, fmt.Errorf("%s: %w", n.Root.Path(identityFile), err)
	}
	i.ClusterID = n.Record.ClusterID
	return i, nil
}

// Identity is which cluster this node is of.
func (n Node) Identity() (peer.Identity, error) {
	i, err := n.identity()
	return i.Identity, err
}

// Adopt takes over the identity of the cluster that a node joins.
func (n Node) Adopt(i peer.Identity) error {
	i.Known, i.Outdated = nil, false
	return n.saveIdentity(identity{Identity: i})
}

func (n Node) saveIdentity(i identity) error {
	file, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("write the cluster's identity: %w", err)
	}
	return n.Root.WriteFile(identityFile, append(file, '\n'), node.Perm{Mode: 0o644, UID: -1, GID: -1})
}

// Answer says to a node of the cluster which one this is, and whether it has a
// record of the node of that name, which asks.
func (n Node) Answer(ctx context.Context, member string) (*peer.Identity, error) {
	i, err := n.identity()
	if err != nil {
		return nil, err
	}
	out := i.Identity
	out.Outdated = n.Outdated() != nil
	if n.Record.Role != node.ControlPlane || out.Outdated {
		return &out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	// A datastore that cannot be asked says nothing of anybody.
	if m, err := store.Get(ctx, member); err == nil {
		known := m != nil
		out.Known = &known
	}
	return &out, nil
}

const (
	askLimit = 3 * time.Second
	// recordLimit leaves who asks the time to hear the answer.
	recordLimit = 2 * time.Second
	// lookAgain is how often lost nodes are looked for, and all others while the
	// datastore is silent; lookSeldom is how often else.
	lookAgain  = 30 * time.Second
	lookSeldom = 5 * time.Minute
)

// Look asks the other control-plane nodes whether the cluster goes on without
// this one. Where it does, what serves here is stopped, and stays so until the
// node has left. It says when to look again, and whether nobody could say it:
// the datastore answers and has no other member, and none was lost.
func (n Node) Look(ctx context.Context) (again time.Duration, alone bool, err error) {
	if err := n.Outdated(); err != nil {
		if _, ok := errors.AsType[*operation.OutdatedError](err); !ok {
			return lookAgain, false, err
		}
		return lookSeldom, false, n.stopServing(ctx)
	}
	own, err := n.identity()
	if err != nil {
		return lookAgain, false, err
	}
	again = lookSeldom
	if len(own.Lost) > 0 {
		again = lookAgain
		if err := n.found(ctx, &own); err != nil {
			n.Log.Debug("cannot look whether lost nodes are back", "error", err.Error())
		}
	}
	agents, whole, err := n.others(ctx, own)
	if err != nil {
		return lookAgain, false, err
	}
	alone = whole && len(agents) == 0
	if !whole && n.Record.Role == node.ControlPlane {
		again = lookAgain
	}
	if err := n.savePeers(agents); err != nil {
		return lookAgain, false, err
	}
	why, err := n.verdict(own, n.askAll(ctx, agents, own.Identity))
	if err != nil {
		return lookAgain, false, err
	}
	if why != nil {
		n.Log.Error("the cluster goes on without this node: it stops serving", "why", why.Error())
		return lookSeldom, false, errors.Join(n.SetOutdated(why), n.stopServing(ctx))
	}
	return again, alone, nil
}

// LookFirst is Look before the datastore is started: of the nodes that were
// known last. So a node with old data does not serve them first.
func (n Node) LookFirst(ctx context.Context) error {
	if n.Record == nil || n.Record.ClusterID == "" {
		return nil
	}
	if err := n.Outdated(); err != nil {
		return err
	}
	own, err := n.identity()
	if err != nil {
		return err
	}
	agents, err := n.Peers()
	if err != nil {
		return err
	}
	why, err := n.verdict(own, n.askAll(ctx, agents, own.Identity))
	if err != nil || why == nil {
		return err
	}
	return errors.Join(n.SetOutdated(why), why)
}

func (n Node) savePeers(agents []string) error {
	text, err := json.Marshal(slices.Sorted(slices.Values(agents)))
	if err != nil {
		return fmt.Errorf("note the other nodes: %w", err)
	}
	if old, err := n.Root.ReadFile(operation.PeersFile); err == nil && string(old) == string(text) {
		return nil
	}
	return n.Root.WriteFile(operation.PeersFile, text, n.Root.Public())
}

// verdict judges the answers. A worker holds no data: it goes along with a
// recovery.
func (n Node) verdict(own identity, answers map[string]peer.Identity) (*operation.OutdatedError, error) {
	if n.Record.Role == node.Worker {
		newest := own.Identity
		for _, a := range answers {
			if a.ClusterID == own.ClusterID && a.Recoveries > newest.Recoveries {
				newest = a
			}
		}
		if newest.Recoveries > own.Recoveries {
			own.Identity = newest
			if err := n.Adopt(newest); err != nil {
				return nil, err
			}
		}
	}
	return judge(own.Identity, answers, n.Now()), nil
}

// judge says whether the answers of others mean that this node is outdated. A
// recovery counts from whoever knows of it; that this node was removed must be
// said by one that is as new, and denied by none.
func judge(own peer.Identity, answers map[string]peer.Identity, now time.Time) *operation.OutdatedError {
	removed, known := "", false
	for agent, a := range answers {
		switch {
		case a.ClusterID != own.ClusterID || a.Outdated:
		case a.Recoveries > own.Recoveries:
			return &operation.OutdatedError{By: a.By, At: a.At}
		case a.Recoveries == own.Recoveries && a.Known != nil && *a.Known:
			known = true
		case a.Recoveries == own.Recoveries && a.Known != nil:
			removed = agent
		}
	}
	if removed == "" || known {
		return nil
	}
	return &operation.OutdatedError{Removed: true, By: removed, At: now.UTC()}
}

// askAll asks every agent at once. Who does not answer is left out.
func (n Node) askAll(ctx context.Context, agents []string, own peer.Identity) map[string]peer.Identity {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out := map[string]peer.Identity{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, a := range agents {
		wg.Go(func() {
			c, err := n.PeerAt(a)
			if err != nil {
				return
			}
			defer c.Close()
			var answer peer.Identity
			if err := c.Call(ctx, peer.IdentityPath, own, &answer); err != nil {
				n.Log.Debug("a node does not say which cluster it is of", "node", a, "error", err.Error())
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[a] = answer
		})
	}
	wg.Wait()
	return out
}

// others are the agents of the control plane's other nodes, as far as this node
// knows: of the datastore's members, which any member that serves says without
// a quorum, else of those that were seen last; and of those that were lost.
func (n Node) others(ctx context.Context, own identity) (out []string, whole bool, err error) {
	add := func(agents []string) {
		for _, agent := range agents {
			if host := operation.HostOf(agent); host != "" && host != n.Record.Address && !slices.Contains(out, agent) {
				out = append(out, agent)
			}
		}
	}
	for _, l := range own.Lost {
		add([]string{l.Agent})
	}
	if n.Record.Role == node.Worker {
		agents, err := n.Agents()
		add(n.agentsAt(ctx, agents))
		return out, false, err
	}
	s, err := n.status(ctx)
	if err != nil { // it does not run, or lacks a quorum since it started: those that were seen last have to do
		seen, err := n.Peers()
		add(seen)
		return out, false, err
	}
	var agents []string
	for _, m := range s.Members {
		if m.Host() != n.Record.Address {
			agents = append(agents, net.JoinHostPort(m.Host(), strconv.Itoa(n.Record.Network.AgentPort)))
		}
	}
	add(n.agentsAt(ctx, agents))
	return out, true, nil
}

// agentsAt are the agents on the hosts of the guessed ones: on the ports that
// the cluster's records say, else where they were seen last, else as guessed.
// A silent API server costs askLimit.
func (n Node) agentsAt(ctx context.Context, guessed []string) (out []string) {
	if len(guessed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	recorded, seen := map[string][]string{}, map[string][]string{}
	members, _ := n.Members(ctx) // where nobody answers, what was seen has to do
	for _, m := range members {
		recorded[m.Address] = append(recorded[m.Address], m.Agent())
	}
	peers, _ := n.Peers() // where they cannot be read, guesses have to do
	for _, p := range peers {
		seen[operation.HostOf(p)] = append(seen[operation.HostOf(p)], p)
	}
	for _, g := range guessed {
		switch host := operation.HostOf(g); {
		case len(recorded[host]) > 0:
			out = append(out, recorded[host]...)
		case len(seen[host]) > 0:
			out = append(out, seen[host]...)
		default:
			out = append(out, g)
		}
	}
	return out
}

// found forgets lost nodes that have joined again.
func (n Node) found(ctx context.Context, own *identity) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	all, err := n.Members(ctx)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(own.Lost), func(l lost) bool {
		return slices.ContainsFunc(all, func(m *cluster.Member) bool { return m.State == cluster.Joined && m.Name == l.Name })
	})
	if len(left) == len(own.Lost) {
		return nil
	}
	own.Lost = left
	return n.saveIdentity(*own)
}

// stopServing stops what answers others: the API server and the datastore, and
// the kubelet with it. Pods run on until the node leaves.
func (n Node) stopServing(ctx context.Context) error {
	names := []string{"kubelite"}
	if n.Record.Role == node.ControlPlane {
		names = append(names, "etcd")
	}
	return n.Services().Stop(ctx, names...)
}
