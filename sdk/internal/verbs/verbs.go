// Package verbs holds how long each question may take, as the proto files
// state it.
package verbs

import (
	"strings"
	"time"
)

// Deadline is the longest time that a question may take. Questions that the
// table does not name get 30 seconds.
func Deadline(method string) time.Duration {
	if !Ours(method) {
		return 30 * time.Second
	}
	service, verb, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	kind := strings.Split(service, ".")[1]
	switch kind + "." + verb {
	case "plugin.Describe", "plugin.Configure", "plugin.Health",
		"tokens.Issue", "tokens.Reserve", "tokens.Commit", "tokens.Release", "tokens.Revoke", "tokens.List", "tokens.Static",
		"addons.List", "addons.Probe":
		return 5 * time.Second
	case "plugin.PrepareImport", "certs.Authorities",
		"clustering.Init", "clustering.Invite", "clustering.Admit", "clustering.Serve",
		"clustering.Members", "clustering.Pending", "clustering.Decide",
		"host.Issue", "host.Reserve", "host.Commit", "host.Release", "host.Authorities", "host.Read", "host.Progress":
		return 10 * time.Second
	}
	return 30 * time.Second
}

// Ours reports whether a gRPC method belongs to the contracts, and not to
// go-plugin or gRPC itself.
func Ours(method string) bool {
	return strings.HasPrefix(method, "/mk.") && strings.Count(method, ".") >= 3
}

// Name is the last part of a method, as people know it: Sign.
func Name(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }
