package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Network is a switch to which machines are plugged in: they reach each other
// and nothing else. It lies in a namespace of its own.
type Network struct {
	Name   string
	prefix string
}

// NewNetwork makes the network of that number, from 1 to 15; its addresses are
// 10.78.NUMBER.0/24, its gateway .254.
func NewNetwork(ctx context.Context, number int) (*Network, error) {
	n := &Network{Name: fmt.Sprintf("%s-%d", unique("mkw"), number), prefix: fmt.Sprintf("10.78.%d.", number)}
	if err := Host(ctx, "ip", "netns", "add", n.Name); err != nil {
		return nil, err
	}
	for _, words := range []string{
		"link set lo up",
		"link add sw0 type bridge",
		"addr add " + n.prefix + "254/24 dev sw0",
		"link set sw0 up",
	} {
		if err := n.ip(ctx, words); err != nil {
			return nil, errors.Join(err, n.Close(ctx))
		}
	}
	return n, nil
}

func (n *Network) ip(ctx context.Context, words string) error {
	return Host(ctx, "ip", append([]string{"-n", n.Name}, strings.Fields(words)...)...)
}

// Machine plugs a machine in; host, from 1 to 253, is the last number of its
// address. Its node's root folder is below dir.
func (n *Network) Machine(ctx context.Context, out, dir string, host int) (*Machine, error) {
	if _, err := os.Stat(filepath.Join(out, "bin", "mk")); err != nil {
		return nil, fmt.Errorf("the programs are needed: make build (%w)", err)
	}
	m := &Machine{Out: out, Root: filepath.Join(dir, "mk"), Name: fmt.Sprintf("%s-%d", n.Name, host), Address: fmt.Sprintf("%s%d", n.prefix, host)}
	err := errors.Join(m.ownMounts(), Host(ctx, "ip", "netns", "add", m.Name))
	port := fmt.Sprintf("port%d", host)
	for _, words := range []string{"link add " + port + " type veth peer name eth0 netns " + m.Name, "link set " + port + " master sw0", "link set " + port + " up"} {
		if err == nil {
			err = n.ip(ctx, words)
		}
	}
	for _, words := range []string{
		"link set lo up", "addr add " + m.Address + "/24 dev eth0", "link set eth0 up", "route add default via " + n.prefix + "254",
	} {
		if err == nil {
			err = Host(ctx, "ip", append([]string{"-n", m.Name}, strings.Fields(words)...)...)
		}
	}
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return m, nil
}

// Unplug takes a machine's cable out, or puts it back.
func (n *Network) Unplug(ctx context.Context, m *Machine, out bool) error {
	state := "up"
	if out {
		state = "down"
	}
	return n.ip(ctx, "link set port"+m.Name[strings.LastIndexByte(m.Name, '-')+1:]+" "+state)
}

// Close takes the network away, even when ctx has ended.
func (n *Network) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return Host(ctx, "ip", "netns", "del", n.Name)
}
