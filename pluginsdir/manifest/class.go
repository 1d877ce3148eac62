package manifest

import (
	"fmt"
	"slices"
	"strings"

	"mk8s.io/mk/sdk/plugin"
)

// Class says how far a plugin's grants reach.
type Class string

// Classes. Whoever is root-equivalent can make itself root on the node or
// cluster-admin in the cluster; grants limit its mistakes, not its intentions.
const (
	RootEquivalent Class = "root-equivalent"
	Contained      Class = "contained"
)

// Classify computes the class of a plugin of a kind with these grants, and why
// it is root-equivalent. It judges by kinds, names and paths alone; what
// workloads contain is judged when they are applied.
func Classify(kind string, g plugin.Grants) (Class, []string) {
	var why []string
	switch kind {
	case plugin.KindCerts:
		why = append(why, "an active certs plugin signs for everyone, administrators included")
	case plugin.KindTokens:
		why = append(why, "an active tokens plugin decides who joins and holds the static credentials")
	case plugin.KindClustering:
		why = append(why, "an active clustering plugin decides which machines hold the datastore")
	}
	if g.HostExec {
		why = append(why, "runs programs on the host")
	}
	if g.Members {
		why = append(why, "changes the members of the datastore, which holds every secret")
	}
	for _, t := range g.Trust {
		why = append(why, fmt.Sprintf("changes whom %s trusts", t))
	}
	for _, f := range g.FilesWrite {
		if of, ok := firstMatch(f, rootFiles()); ok {
			why = append(why, fmt.Sprintf("writes %s (%s)", f, of))
		}
	}
	for _, f := range g.FilesRead {
		if of, ok := firstMatch(f, keyFiles()); ok {
			why = append(why, fmt.Sprintf("reads %s (%s)", f, of))
		}
	}
	for _, a := range g.Arguments {
		if !harmlessArgument(a) {
			why = append(why, fmt.Sprintf("sets the argument %s", a))
		}
	}
	for _, o := range g.Objects {
		why = append(why, objectReasons(o)...)
	}
	if len(why) > 0 {
		return RootEquivalent, why
	}
	return Contained, nil
}

// place is a file or tree, and what it is.
type place struct{ path, what string }

// rootFiles are the trees whose writer decides what runs as root, or who is
// administrator.
func rootFiles() []place {
	return []place{
		{"args", "arguments, and CNI and containerd configuration"},
		{"certs", "certificates and trust"},
		{"var/certs", "certificates and trust"},
		{"credentials", "credentials of administrators"},
		{"var/kubernetes/backend", "the datastore"},
		{"var/journal", "the core's journal"},
		{"plugins", "plugins and their settings"},
		{"node.json", "what mk knows of this node"},
		{"bin", "programs that run as root"},
		{"opt", "programs that run as root"},
		{"units", "units of services"},
		{"etc", "configuration of the host"},
		{"run", "sockets of root's programs"},
	}
}

// keyFiles are what makes its reader an administrator.
func keyFiles() []place {
	return []place{
		{"credentials", "credentials of administrators"},
		{"certs/serviceaccount.key", "signs tokens for every service account"},
		{"certs/server.key", "the API server's key"},
		{"certs/front-proxy-client.key", "may impersonate anyone"},
		{"certs/apiserver-kubelet-client.key", "runs commands in every pod"},
		{"certs/client.key", "credentials of administrators"},
		{"var/certs", "keys"},
		{"var/kubernetes/backend", "the datastore and its key"},
		{"plugins", "state and settings of plugins"},
	}
}

func firstMatch(glob string, places []place) (string, bool) {
	for _, p := range places {
		if mayMatch(glob, p.path) {
			return p.what, true
		}
	}
	return "", false
}

// harmlessArgument knows the options whose every value leaves authentication,
// authorization, admission and programs as they are.
func harmlessArgument(a string) bool {
	return slices.Contains([]string{
		"kubelet/cluster-dns", "kubelet/cluster-domain", "kubelet/max-pods", "kubelet/v",
		"kube-apiserver/v", "kube-controller-manager/v", "kube-scheduler/v", "kube-proxy/v",
	}, a)
}

func objectReasons(o plugin.ObjectGrant) []string {
	var why []string
	for _, k := range o.Kinds {
		if r := objectReason(o.Group, k, o.Namespaces); r != "" {
			why = append(why, r)
		}
	}
	return why
}

func objectReason(group, kind string, namespaces []string) string {
	name := kind
	if group != "" {
		name += "." + group
	}
	system := inSystem(namespaces)
	is := func(g string, kinds ...string) bool {
		return (group == g || group == "*") && (kind == "*" || len(kinds) == 0 || slices.Contains(kinds, kind))
	}
	switch {
	case group == "*" && kind == "*":
		return "applies objects of every kind"
	case is("rbac.authorization.k8s.io"):
		return fmt.Sprintf("applies %s: says who may do what", name)
	case is("admissionregistration.k8s.io"):
		return fmt.Sprintf("applies %s: sees and changes what others apply", name)
	case is("apiregistration.k8s.io"):
		return fmt.Sprintf("applies %s: answers in the API server's name", name)
	case is("apiextensions.k8s.io"):
		return fmt.Sprintf("applies %s: conversion sees and changes other objects", name)
	case is("certificates.k8s.io"):
		return fmt.Sprintf("applies %s: credentials for anyone", name)
	case is("", "PersistentVolume") && len(namespaces) == 0:
		return fmt.Sprintf("applies %s: can mount any folder of the host", name)
	case is("", "Secret") && system != "":
		return fmt.Sprintf("applies %s in %s: credentials of the cluster itself", name, system)
	case system == "mk-system" || system == "*":
		return fmt.Sprintf("applies %s in mk-system: what the cluster wants", name)
	case system != "" && workload(group, kind):
		return fmt.Sprintf("applies %s in %s: runs with the cluster's own service accounts", name, system)
	}
	return ""
}

// inSystem names the system namespace that is among them.
func inSystem(namespaces []string) string {
	for _, n := range []string{"*", "mk-system", "kube-system"} {
		if slices.Contains(namespaces, n) {
			return n
		}
	}
	return ""
}

func workload(group, kind string) bool {
	switch group {
	case "":
		return slices.Contains([]string{"*", "Pod", "PodTemplate", "ReplicationController"}, kind)
	case "apps", "batch", "*":
		return true
	}
	return strings.HasPrefix(kind, "*")
}
