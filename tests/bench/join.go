package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/tests/machine"
)

// The network of the two machines, and the name of the one that joins.
const (
	joinNetwork = 14
	worker      = "bench-w"
)

// join measures a worker's mk join until the node is Ready, beside a script
// that starts the same programs with the certificates that are there.
func (b *bench) join(ctx context.Context) (rows []row, err error) {
	net, err := machine.NewNetwork(ctx, joinNetwork)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, net.Close(ctx)) }()
	server, err := b.plugged(ctx, net, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.close(ctx)) }()
	b.say("a node for others to join")
	if _, err := server.mkStart(ctx); err != nil {
		return nil, err
	}
	values := make([][]float64, 2)
	for i := range b.times(6, 1) {
		got, err := b.joins(ctx, net, server)
		if err != nil {
			return nil, err
		}
		if i == 0 && !b.smoke {
			continue // the server has only just started
		}
		for k, v := range got {
			values[k] = append(values[k], v)
		}
	}
	m := medians(values)
	rows = []row{{what: "a worker's mk join to Ready", ours: fmt.Sprintf("%.3g s", m[0]), peer: fmt.Sprintf("%.3g s, a script", m[1]),
		value: m[0] / m[1], unit: "x", aim: 1.2}}
	argument, err := b.argument(ctx, net, server)
	return append(rows, argument...), err
}

// argument measures how long an argument takes until a control-plane node and
// two workers have restarted with it, and work.
func (b *bench) argument(ctx context.Context, net *machine.Network, server *benchNode) (rows []row, err error) {
	var nodes []*benchNode
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.close(ctx))
		}
	}()
	for host := 2; host <= 3; host++ {
		n, err := b.plugged(ctx, net, host)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		invitation, err := server.workerString(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := n.Try(ctx, 2*time.Minute, "mk", "join", invitation, "--worker", "--name", fmt.Sprintf("%s%d", worker, host)); err != nil {
			return nil, err
		}
	}
	b.say("mk args set --all-nodes, of three")
	var took []float64
	for i := range b.times(3, 1) {
		begun := time.Now()
		if _, err := server.Try(ctx, 3*time.Minute, "mk", "args", "set", "kubelet", fmt.Sprintf("max-pods=%d", 111+i), "--all-nodes"); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun).Seconds())
	}
	m := median(took)
	return []row{{what: "one argument to 3 real nodes", ours: fmt.Sprintf("%.3g s until all work with it", m), peer: "-", value: m, unit: "s", told: true}}, nil
}

// workerString lets a worker in.
func (n *benchNode) workerString(ctx context.Context) (string, error) {
	invited, err := spend(n.Command(ctx, "mk", "add-node", "--worker", "-o", "json"))
	if err != nil {
		return "", err
	}
	var answer struct{ URLs []string }
	if err := json.Unmarshal([]byte(invited.out), &answer); err != nil || len(answer.URLs) == 0 {
		return "", fmt.Errorf("mk add-node printed %q (%w)", invited.out, err)
	}
	return answer.URLs[0], nil
}

func (b *bench) plugged(ctx context.Context, net *machine.Network, host int) (*benchNode, error) {
	dir, err := machine.Folder()
	if err != nil {
		return nil, err
	}
	m, err := net.Machine(ctx, b.out, dir, host)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &benchNode{Machine: m, b: b, dir: dir}, nil
}

// joins has a new machine join, starts it again by a script, and lets it go.
func (b *bench) joins(ctx context.Context, net *machine.Network, server *benchNode) (_ []float64, err error) {
	n, err := b.plugged(ctx, net, 2)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close(ctx)) }()
	invitation, err := server.workerString(ctx)
	if err != nil {
		return nil, err
	}
	b.say("mk join")
	ready := server.nodeReady(worker)
	joined, err := n.timed(ctx, n.Command(ctx, "mk", "join", invitation, "--worker", "--name", worker), ready, (*exec.Cmd).Wait)
	if err != nil {
		return nil, err
	}
	port, err := n.portOf("kubelet.config")
	if err != nil {
		return nil, err
	}
	b.say("a script beside it")
	script, err := n.script(ctx, port, "containerd", "mk apiserver-proxy", "kubelite", "flanneld")
	if err != nil {
		return nil, err
	}
	if _, err := server.Try(ctx, time.Minute, "mk", "kubectl", "delete", "node", worker); err != nil {
		return nil, err
	}
	// Nor has a new node a pod network: containerd writes down which it has when
	// the cluster has given it one.
	if err := os.Remove(n.Root + "/args/cni-network/10-containerd-net.conflist"); err != nil {
		return nil, err
	}
	scripted, err := n.scriptUntil(ctx, script, ready)
	if err != nil {
		return nil, err
	}
	_, err = server.Try(ctx, time.Minute, "mk", "remove-node", worker, "--force", "--yes")
	return []float64{joined, scripted}, err
}

// portOf is the port of the API server, or of the way to it, in a kubeconfig.
func (n *benchNode) portOf(name string) (string, error) {
	data, err := os.ReadFile(n.Root + "/credentials/" + name)
	if err != nil {
		return "", err
	}
	c, err := kubeconfig.Parse(name, data)
	if err != nil {
		return "", err
	}
	if len(c.Clusters) == 0 {
		return "", fmt.Errorf("%s names no cluster", name)
	}
	at := c.Clusters[0].Server
	return at[strings.LastIndexByte(at, ':')+1:], nil
}

// nodeReady asks this node's API server whether another node is Ready.
func (n *benchNode) nodeReady(name string) func(context.Context) bool {
	ask := n.asker("/api/v1/nodes/" + name)
	return func(ctx context.Context) bool {
		status, body := ask(ctx)
		var node corev1.Node
		if status != http.StatusOK || json.Unmarshal(body, &node) != nil {
			return false
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
}
