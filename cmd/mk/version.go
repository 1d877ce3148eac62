package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/version"
	"mk8s.io/mk/pluginsdir/lockfile"
)

func (s *session) version() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "say which mk this is", Description: "mk version --all", UsageText: exitsTold,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "Kubernetes, etcd, contracts and plugins too"}},
		Action: func(c *cli.Context) error {
			v := versions{MK: version.Version}
			if c.Bool("all") {
				if err := s.allVersions(&v); err != nil {
					return err
				}
			}
			return s.show(v, v.print)
		},
	}
}

type versions struct {
	MK         string            `json:"mk"`
	Kubernetes string            `json:"kubernetes,omitempty"`
	Etcd       string            `json:"etcd,omitempty"`
	Contracts  []string          `json:"contracts,omitempty"`
	Plugins    map[string]string `json:"plugins,omitempty"`
	order      []lockfile.Installed
}

func (v versions) print(w io.Writer) error {
	fmt.Fprintf(w, "mk %s\n", v.MK)
	if v.Kubernetes != "" {
		fmt.Fprintf(w, "Kubernetes %s\netcd %s\n", v.Kubernetes, v.Etcd)
	}
	for _, c := range v.Contracts {
		fmt.Fprintf(w, "contract %s\n", c)
	}
	for _, i := range v.order {
		fmt.Fprintf(w, "plugin %s %s\n", i.Identity, i.Version)
	}
	return nil
}

func (s *session) allVersions(v *versions) error {
	v.Kubernetes, v.Contracts = operation.KubernetesVersion, operation.HostContracts(version.Version).Contracts
	v.Etcd, v.Plugins = datastore.EtcdVersion(), map[string]string{}
	return s.maybe("version", func(n *operation.Node) error {
		lock, err := n.Dir.Lock()
		if err != nil {
			return err
		}
		v.order = lock.Installed
		for _, i := range lock.Installed {
			v.Plugins[i.Identity.String()] = i.Version
		}
		return nil
	})
}
