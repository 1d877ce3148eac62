package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
)

func (s *session) kubectl() *cli.Command {
	return &cli.Command{
		Name: "kubectl", Usage: "talk to the cluster", ArgsUsage: "...", SkipFlagParsing: true,
		Description: "mk kubectl get pods -A", UsageText: "those of kubectl",
		Action: func(c *cli.Context) error {
			return s.open("kubectl", func(n *operation.Node) error {
				if n.Record != nil && n.Record.Stopped {
					return &problem{Reason: "STOPPED", Message: "the node is stopped", exit: exitFailed, Next: []string{"sudo mk start"}, state: unchanged}
				}
				env := os.Environ()
				words := c.Args().Slice()
				if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "--kubeconfig") }) {
					env = append(env, "KUBECONFIG="+n.Root.Credentials("client.config"))
				}
				return become(n.Programs, "kubelite", append([]string{"kubectl"}, words...), env)
			})
		},
	}
}

// become replaces this process by one of mk's programs.
func become(p node.Programs, program string, argv, env []string) error {
	path := p.Bin(program)
	if err := syscall.Exec(path, argv, env); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}
