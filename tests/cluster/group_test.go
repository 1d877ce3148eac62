//go:build cluster

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAdminGroup has somebody of the admin group, and of no other, read all
// there is to read of a node, and change nothing; and somebody of no group.
func TestAdminGroup(t *testing.T) {
	m := newMachine(t, 11, true)
	m.run("mk", "settings", "set", "group", "users") // one that every Debian has
	m.run("mk", "start", "--name", "node-g")
	m.run("mk", "enable", "dns")
	m.run("mk", "datastore", "snapshot", "save")
	dir := passable(t) // what was built may lie where nobody else passes
	m.host("cp", "-r", filepath.Join(m.Out, "bin"), dir)
	mk := filepath.Join(dir, "bin/mk")
	as := func(group string, words ...string) answered {
		return m.answerOf("setpriv", append([]string{"--reuid=65534", "--regid=" + group, "--clear-groups", mk}, words...)...)
	}
	for words, says := range map[string]string{
		"status":                      "mk is running: node-g",
		"status --wait-ready":         "mk is running: node-g",
		"doctor":                      "",
		"config":                      "client-certificate",
		"kubectl get nodes":           "node-g",
		"args list":                   "kubelet",
		"settings list":               "users",
		"certs list":                  "kubelet",
		"certs check":                 "",
		"addons":                      "dns",
		"images list":                 "coredns",
		"logs kubelite --level error": "",
		"logs etcd --level error":     "",
		"changes":                     "enable",
		"changes show 2":              "mk start",
		"plugin list":                 "certs/local",
		"plugin info certs/local":     "certs/local",
		"plugin verify":               "",
		"plugin history certs/local":  "",
		"node list":                   "node-g",
		"node show node-g":            "node-g",
		"datastore status":            "quorum: yes",
		"datastore members":           "node-g",
		"datastore snapshot list":     "",
		"version --all":               "",
		"args list etcd":              "",
	} {
		if a := as("100", strings.Fields(words)...); a.code != 0 || !strings.Contains(a.out, says) {
			t.Errorf("mk %s, of the admin group, does not say %q: %s", words, says, a)
		}
	}
	for _, words := range []string{"stop", "args set kubelet max-pods=10", "restart flanneld", "disable dns", "plugin rollback certs/local", "datastore recover --yes"} {
		if a := as("100", strings.Fields(words)...); a.code != 50 {
			t.Errorf("mk %s, of the admin group: %s", words, a)
		}
	}
	for _, words := range []string{"status", "changes", "config", "logs etcd", "datastore snapshot list"} {
		if a := as("65534", strings.Fields(words)...); a.code != 50 {
			t.Errorf("mk %s, of no group: %s", words, a)
		}
	}
	redo, _ := filepath.Glob(filepath.Join(m.Root, "var/journal/*/*.log"))
	if len(redo) == 0 {
		t.Error("no redo log")
	}
	for _, file := range redo {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}
