package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"mk8s.io/mk/cmd/kubelite/offline"
)

// runEtcd is upstream's etcd with the options of an args file; options after it win. It ends by SIGTERM, after a clean
// close, and then reports itself as killed by that signal, as upstream does.
func runEtcd(args []string) int {
	argv, err := etcdArgs(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 2
	}
	if dir := lastOption(argv, "--data-dir"); dir != "" && lastOption(argv, "--wal-dir") == "" {
		if err := offline.Unmade(dir); err != nil {
			fmt.Fprintln(os.Stderr, "etcd:", err)
			return 1
		}
	}
	etcdmain.Main(append([]string{"etcd"}, argv...))
	return 0
}

// lastOption is the value of an option that is written name=value.
func lastOption(argv []string, name string) string {
	for _, a := range slices.Backward(argv) {
		if value, ok := strings.CutPrefix(a, name+"="); ok {
			return value
		}
	}
	return ""
}

func etcdArgs(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	path, given := strings.CutPrefix(args[0], "--args-file=")
	rest := args[1:]
	if args[0] == "--args-file" {
		if len(rest) == 0 {
			return nil, fmt.Errorf("--args-file needs a file")
		}
		path, rest, given = rest[0], rest[1:], true
	}
	if !given {
		return args, nil
	}
	argv, err := loadArgs(path)
	if err != nil {
		return nil, err
	}
	return append(argv, rest...), nil
}
