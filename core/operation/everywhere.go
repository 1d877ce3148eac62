package operation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
)

// Outcome is what became of a wish on one node.
type Outcome struct {
	Node  string    `json:"node"`
	Done  bool      `json:"done"`
	Error string    `json:"error,omitempty"`
	Seen  time.Time `json:"lastContact,omitzero"`
}

// selected are the members that a command is about, and how their agents are
// asked.
func (n *Node) selected(ctx context.Context, where Where) ([]*cluster.Member, peer.Options, error) {
	all, err := n.Members(ctx)
	if err != nil {
		return nil, peer.Options{}, err
	}
	options, err := n.peerOptions()
	return slices.DeleteFunc(all, func(m *cluster.Member) bool {
		return m.State != cluster.Joined || (where.Node != "" && m.Name != where.Node)
	}), options, err
}

// Reports are what the nodes' agents said last, by node.
func (n *Node) Reports(ctx context.Context) (map[string]*cluster.Report, error) {
	c, err := n.Kube()
	if err != nil {
		return nil, err
	}
	return cluster.Reports{Client: c}.List(ctx)
}

// AwaitWanted nudges the nodes and waits until they have applied a generation
// of what the cluster wants, or failed to, or ctx ends, which is no error: the
// outcomes say so.
func (n *Node) AwaitWanted(ctx context.Context, generation int, where Where) ([]Outcome, error) {
	members, options, err := n.selected(ctx, where)
	if err != nil {
		return nil, err
	}
	store, err := n.Store()
	if err != nil {
		return nil, err
	}
	waiting, stop := context.WithCancel(ctx)
	silent := map[string]string{}
	nudged := make(chan struct{})
	go func() {
		defer close(nudged)
		// One that does not answer reads the same object when it is back.
		AskMembers(waiting, options, members, peer.NudgePath, peer.Nudge{Generation: generation}, func(name string, _ json.RawMessage, err error) {
			if err != nil {
				silent[name] = oneLine(err.Error())
			}
		})
	}()
	var last map[string]*cluster.Report
	err = cluster.Reports{Client: store.Client}.Watch(waiting, func(reports map[string]*cluster.Report) bool {
		last = reports
		left := slices.DeleteFunc(cluster.Lags(members, reports, generation), func(name string) bool {
			return reports[name] != nil && reports[name].Tried >= generation
		})
		if len(left) > 0 {
			n.detail(progressOf(len(members), left))
		}
		return len(left) == 0
	}, func(error) {})
	stop()
	<-nudged
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	return outcomes(members, last, silent, generation), nil
}

func progressOf(all int, left []string) string {
	names := strings.Join(left[:min(len(left), 5)], ", ")
	if len(left) > 5 {
		names += ", …"
	}
	return fmt.Sprintf("%d of %d nodes, waiting for %s", all-len(left), all, names)
}

func outcomes(members []*cluster.Member, reports map[string]*cluster.Report, silent map[string]string, generation int) []Outcome {
	out := make([]Outcome, 0, len(members))
	for _, m := range members {
		o := Outcome{Node: m.Name}
		r := reports[m.Name]
		switch {
		case r == nil:
			o.Error = "it has never reported"
		case r.Generation >= generation:
			o.Done, o.Seen = true, r.At
		case r.Tried >= generation:
			o.Error, o.Seen = r.Error, r.At
		default:
			o.Error, o.Seen = "not done in time", r.At
		}
		if why := silent[m.Name]; why != "" && !o.Done && (r == nil || r.Tried < generation) {
			o.Error = why
		}
		out = append(out, o)
	}
	return out
}

// AskMembers asks the agents of members the same, many at once, each over a
// connection that ends with its answer. answered hears of each, one at a time.
func AskMembers(ctx context.Context, options peer.Options, members []*cluster.Member, path string, in any, answered func(name string, answer json.RawMessage, err error)) {
	options.Once = true
	cluster.Each(ctx, members, cluster.Quick(), func(ctx context.Context, m *cluster.Member) (answer json.RawMessage, err error) {
		c := peer.New(m.Agent(), options)
		defer c.Close()
		err = c.Call(ctx, path, in, &answer)
		return answer, err
	}, func(m *cluster.Member, answer json.RawMessage, err error) { answered(m.Name, answer, err) })
}

// peerOptions are how this node asks another's agent.
func (n *Node) peerOptions() (peer.Options, error) {
	p, err := pki.Find(pki.NodeAgent)
	if err != nil {
		return peer.Options{}, err
	}
	pair, err := tls.LoadX509KeyPair(n.Root.Path(p.CertFile()), n.Root.Path(p.KeyFile()))
	if err != nil {
		return peer.Options{}, fmt.Errorf("read this node's certificate: %w", err)
	}
	bundle, err := n.Root.ReadFile(kubernetesTrust)
	if err != nil {
		return peer.Options{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return peer.Options{}, errors.New(n.Root.Path(kubernetesTrust) + " holds no certificate")
	}
	return peer.Options{Roots: roots, Client: &pair}, nil
}

// PeerAt is a client of another node's agent, as this node.
func (n *Node) PeerAt(address string) (*peer.Client, error) {
	o, err := n.peerOptions()
	if err != nil {
		return nil, err
	}
	return peer.New(address, o), nil
}
