package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func (s *session) help() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "help on a verb or a topic", ArgsUsage: "[VERB|TOPIC]",
		Description: "mk help start\nmk help exit-codes", UsageText: exitsTold,
		Action: func(c *cli.Context) error {
			word := c.Args().First()
			if word == "" {
				return cli.ShowAppHelp(c)
			}
			if text, ok := topics()[word]; ok {
				s.printf("%s", text)
				return nil
			}
			for _, cmd := range c.App.Commands {
				if cmd.HasName(word) && !cmd.Hidden {
					return cli.ShowCommandHelp(c, word)
				}
			}
			known := slices.Sorted(maps.Keys(topics()))
			for _, cmd := range c.App.Commands {
				if !cmd.Hidden {
					known = append(known, cmd.Names()...)
				}
			}
			return unknown("help on", word, known, "mk help   topics: "+strings.Join(slices.Sorted(maps.Keys(topics())), ", "))
		},
	}
}

// topics are texts that belong to no single verb.
func topics() map[string]string {
	return map[string]string{
		"permissions": `Who may do what
  root          everything; only root starts plugins, takes locks and changes anything
  admin group   reads (the setting "group", default mk; microk8s where only that exists).
                It reads kubeconfigs, so it is as good as root in the cluster.
  others        nothing
A plugin runs as a user of its own (62000-62999), in namespaces of its own, without network unless its grants name some.
`,
		"ports": helpPorts(),
		"files": `Files of a node (below --root, default /var/lib/mk)
  args/<service>       one option a line; then mk restart
  certs/               link to one generation of var/certs/<n>/
  certs/csr.conf.template  names of the API server's certificate: yours to edit
  credentials/         kubeconfigs
  settings.yaml        mk settings
  plugins/             store, lock.json, state/<kind>/<name>/
  var/journal/         what mk did: mk changes
  var/log/             mk logs
  var/kubernetes/backend/  the datastore
  var/snapshots/       mk datastore snapshot
`,
		"exit-codes": `Exit codes
  0    done
  1    failed
  2    wrong usage or setting (the message names file and line)
  3    refused: integrity, signature or grant
  4    not ready, or timed out
  5    done on some nodes, not on others
  6    needs --yes, or was declined
  50   needs root to change, or root or the group to read
  130  Ctrl-C
`,
		"env": `Environment
  MK_ROOT    the node's folder, as --root
  MK_<KEY>   a setting, as in mk settings: MK_KEY_TYPE=rsa-2048
  NO_COLOR   no colors
A flag wins over the environment, that over settings.yaml, that over the default.
`,
		"quorum": `The datastore and its majority
A cluster of n control-plane nodes works while more than half of them do: 1 of 1, 2 of 2, 2 of 3, 3 of 5.
Without a majority pods run on and nothing can be changed. A node that comes back heals it by itself.

Where the others are gone for good, on the node that has the newest data (mk datastore status):
  sudo mk datastore recover --dry-run   what it would do; it changes nothing
  sudo mk datastore recover             goes on with this node's data alone
It refuses while a majority answers. Be sure that the others are off: a majority that lives on where this node
does not reach it is a second cluster. Nodes that come back serve nothing; each one: mk leave, then mk join.
No node with data is left? Then from a file: mk datastore snapshot restore FILE
`,
		"mirrors": `Images without a network
  mk images import FILE            puts an image on this node
  args/certs.d/<registry>/hosts.toml   names a mirror of a registry, as containerd documents it
The images of mk's own addons come with it.
`,
	}
}
