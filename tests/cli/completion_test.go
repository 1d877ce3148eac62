package cli

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// completed is what a script is offered for the word after a line.
func completed(t *testing.T, root, line string) []string {
	t.Helper()
	typed := ""
	words := append([]string{"--root=" + root}, strings.Fields(line)...)
	if last := len(words) - 1; !strings.HasSuffix(line, " ") && line != "" {
		typed, words = words[last], words[:last]
	}
	out, err := exec.CommandContext(t.Context(), "mk", append(words, "--generate-bash-completion="+typed)...).CombinedOutput()
	if err != nil {
		t.Fatalf("complete %q: %v\n%s", line, err, out)
	}
	return strings.Fields(string(out))
}

// Completion offers what exists. The plugins of this node have no program: one
// that was started would fail.
func TestCompletion(t *testing.T) {
	t.Parallel()
	root := fullNode(t)
	before := tree(t, root)
	for line, want := range map[string]string{
		"st":                            "start stop status",
		"certs re":                      "renew",
		"enable ":                       "dns storage",
		"enable dns ":                   "storage",
		"disable d":                     "dns",
		"addons info ":                  "dns storage",
		"status --addon ":               "dns storage",
		"restart ":                      "containerd etcd kubelite flanneld",
		"logs k":                        "kubelite",
		"logs m":                        "mk",
		"args list kubel":               "kubelet kubelite",
		"args get kubelet ":             "max-pods v",
		"args set kubelet m":            "max-pods=",
		"certs show serv":               "server",
		"certs renew server f":          "front-proxy-client flanneld",
		"refresh-certs --cert k":        "kubelet",
		"certs show c":                  "controller client ca",
		"plugin info ":                  "certs/local addons/core",
		"plugin use certs":              "certs/local",
		"plugin use --for ":             "kubernetes front-proxy datastore",
		"changes show ":                 "2 1",
		"changes undo ":                 "1",
		"changes abort ":                "2",
		"settings get key":              "key-type",
		"settings set key-type ":        "ecdsa-p256 rsa-2048",
		"settings set accept-microk8s ": "true false",
		"node show ":                    "a",
		"restart --node ":               "a",
		"doctor net":                    "network",
		"help exit":                     "exit-codes",
		"completion ":                   "bash zsh fish",
		"status -o ":                    "pretty short json yaml",
		"add-node -o token":             "token token-check",
		"status --wa":                   "--wait-ready --watch",
		"kubectl get ":                  "",
		"join ":                         "",
		"images import ":                "",
		"dbctl ":                        "backup restore",
		"nonsense ":                     "",
	} {
		got := completed(t, root, line)
		for _, w := range strings.Fields(want) {
			if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+w+" ") {
				t.Errorf("mk %s: %q, without %s", line, got, w)
			}
		}
		if len(got) != len(strings.Fields(want)) {
			t.Errorf("mk %s: %q, wants %s", line, got, want)
		}
	}
	if after := tree(t, root); after != before {
		t.Errorf("something was changed:\n%s\nbefore\n%s", after, before)
	}
}

// Without a node, an answer is there at once. The fastest of a few counts: the
// machine may be busy.
func TestCompletionIsQuick(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	for _, line := range []string{"", "enable ", "node show ", "plugin info ", "settings set "} {
		best := time.Hour
		for range 10 {
			began := time.Now()
			completed(t, none, line)
			best = min(best, time.Since(began))
		}
		if best > 100*time.Millisecond {
			t.Errorf("mk %s: %s", line, best)
		}
	}
	if _, err := os.Stat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}

// Every time in every document is in UTC, whatever zone the machine is in and
// the node's files name.
func TestTimesOfDocuments(t *testing.T) {
	t.Parallel()
	root, times := fullNode(t), 0
	moment := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)
	for _, line := range []string{"status", "certs", "certs tree", "certs check", "changes", "changes show 1", "plugin list", "plugin info certs/local", "plugin history certs/local",
		"plugin verify", "addons", "addons info dns", "settings", "args list", "version --all", "doctor", "logs", "datastore snapshot list", "node ports", "start --dry-run", "changes undo 1"} {
		cmd := exec.CommandContext(t.Context(), "mk", append(strings.Fields(line), "--root="+root, "--output=json")...)
		cmd.Env = append(os.Environ(), "TZ=Asia/Tokyo", "MK_ACCEPT_OTHER_KUBERNETES=true")
		out, _ := cmd.Output() // some end with another code than 0: the document counts
		if !json.Valid(out) {
			t.Errorf("mk %s: no document\n%s", line, out)
		}
		for _, at := range moment.FindAllString(string(out), -1) {
			if times++; !strings.HasSuffix(at, `Z"`) {
				t.Errorf("mk %s: %s is not in UTC", line, at)
			}
		}
	}
	if times < 10 {
		t.Errorf("only %d times were found", times)
	}
}
