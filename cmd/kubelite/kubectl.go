package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to log in that kubectl has
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// runKubectl is upstream's kubectl. It takes its arguments, and looks for plugins, from os.Args alone, so these are set.
func runKubectl(args []string) int {
	os.Args = append([]string{"kubectl"}, args...)
	// As upstream's main: plugins and the kuberc file are read while the command is built, before its flags are parsed.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints in kubectl's way and exits with its status
	}
	return 0
}
