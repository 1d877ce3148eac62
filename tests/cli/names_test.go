package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/plugin"
)

// plainFiles writes the small files of a plugins folder.
type plainFiles string

func (f plainFiles) WriteFile(name string, data []byte, mode fs.FileMode) error {
	path := filepath.Join(string(f), name)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, mode))
}

func (f plainFiles) Remove(name string) error { return os.RemoveAll(filepath.Join(string(f), name)) }

// fullNode is a node's folder with arguments, two changes, and plugins of
// which nothing runs: an addon dns, and certs/local.
func fullNode(t *testing.T) string {
	t.Helper()
	dir := fakeNode(t)
	root, err := node.Open(dir, node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"args/kubelet": "--max-pods=200\n--v=1\n", "args/etcd": "--name=a\n",
		"var/journal/1/operation.json": record(1, "start", "done"), "var/journal/2/operation.json": record(2, "datastore recover", "open"),
	} {
		if err := errors.Join(root.MkdirAll(filepath.Dir(name), node.Perm{Mode: 0o750, UID: -1, GID: -1}), root.WriteFile(name, []byte(text), root.Secret())); err != nil {
			t.Fatal(err)
		}
	}
	plugins := pluginsdir.New(root.Plugins(), plainFiles(root.Plugins()))
	lock, at := lockfile.New(), time.Date(2026, 11, 1, 2, 3, 4, 0, time.FixedZone("east", 9*3600))
	for i, id := range []plugin.Identity{{Kind: "certs", Name: "local", Version: "1.0.0"}, {Kind: "addons", Name: "core", Version: "1.0.0"}} {
		digest := "sha256:" + strings.Repeat(strconv.Itoa(i+1), 64)
		entry := lockfile.Installed{
			Identity: id, Digest: digest, Manifest: digest, Contracts: []string{plugin.Contract(id.Kind)}, Class: manifest.Contained,
			Source: "shipped", By: "lin", At: at, Consent: lockfile.Consent{By: "lin", At: at},
			Programs: []manifest.Platform{{OS: "linux", Arch: "amd64", Bin: "bin/x", SHA256: strings.Repeat("a", 64)}},
		}
		if lock, err = lockfile.PlanInstall(lock, entry, dir, false, nil); err == nil {
			lock, _, err = lockfile.PlanActivate(lock, lockfile.Activation{Kind: id.Kind, Name: id.Name, By: "lin", At: at})
		}
		said := &pluginsdir.Described{Description: plugin.Description{Identity: id}}
		if id.Kind == plugin.KindAddons {
			said.Addons = []addons.Addon{{Name: "dns", Version: "1.0.0", Description: "names"}, {Name: "storage", Version: "1.0.0", Description: "disks"}}
		}
		if err := errors.Join(err, plugins.SaveDescribed(digest, said)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(plugins.WriteLock(lock), root.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func record(number int, verb, state string) string {
	return fmt.Sprintf(`{"schema": 1, "number": %d, "id": "x%d", "verb": %q, "user": "lin", "pid": 7, "began": "2026-11-01T11:03:04+09:00", "state": %q}`, number, number, verb, state)
}

// mk runs one command line on a node's folder.
func mk(t *testing.T, root string, line ...string) (exit int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "mk", append([]string{"--root=" + root}, line...)...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// A name that is none of a closed set is wrong usage wherever it stands: the
// nearest is named, or what there is, and nothing is changed. Who may not
// change anything is told so first.
func TestUnknownNames(t *testing.T) {
	t.Parallel()
	root := fullNode(t)
	before := tree(t, root)
	for line, want := range map[string]string{
		"restart kubelit":                      "kubelite",
		"restart kubelit --all-nodes":          "kubelite",
		"restart zzz":                          "there are: ",
		"logs kubelt":                          "kubelite",
		"args list kubelt":                     "kubelet",
		"args get kubelt max-pods":             "kubelet",
		"args set kubelt max-pods=3":           "kubelet",
		"args unset kubelt max-pods":           "kubelet",
		"certs show servr":                     "server",
		"certs renew servr":                    "server",
		"refresh-certs --cert servr.crt":       "server",
		"enable dsn":                           "dns",
		"enable dsn:1.1.1.1 --dry-run":         "dns",
		"disable stroage":                      "storage",
		"addons info dsn":                      "dns",
		"status --addon dsn":                   "dns",
		"doctor netwrok":                       "network",
		"help exit-cods":                       "exit-codes",
		"help statsu":                          "status",
		"settings get kye-type":                "key-type",
		"settings set kye-type rsa-2048":       "key-type",
		"settings unset kye-type":              "key-type",
		"plugin info certs/locla":              "certs/local",
		"plugin use certs/locla":               "certs/local",
		"plugin use certs/locla --dry-run":     "certs/local",
		"plugin rollback certs/locla":          "certs/local",
		"plugin remove certs/locla":            "certs/local",
		"plugin verify certs/locla":            "certs/local",
		"plugin history certs/locla":           "certs/local",
		"plugin verify nope":                   "KIND/NAME",
		"plugin info certs/local@9":            "installed are 1.0.0",
		"plugin use certs/local@9":             "installed are 1.0.0",
		"changes show 99":                      "mk changes",
		"changes undo 99":                      "mk changes",
		"changes abort 99":                     "mk changes",
		"changes pause 99":                     "mk changes",
		"add-node --uses -1":                   "0 to 1000000",
		"add-node --uses 4294967297":           "0 to 1000000",
		"add-node --uses 99999999999999999999": "0 to 1000000",
		"add-node --token-ttl 0":               "1 to 3153600000 seconds, or -1",
		"add-node --token-ttl -2":              "1 to 3153600000 seconds, or -1",
		"add-node --token-ttl 9223372037":      "1 to 3153600000 seconds, or -1",
	} {
		exit, out, errs := mk(t, root, strings.Fields(line)...)
		if exit == 50 && os.Geteuid() != 0 {
			continue
		}
		if exit != 2 || !strings.Contains(errs, want) || out != "" || !strings.Contains(errs, "\nstate nothing was changed\n") {
			t.Errorf("mk %s: exit %d, wants 2 and %q\n%s%s", line, exit, want, out, errs)
		}
	}
	if after := tree(t, root); after != before {
		t.Errorf("something was changed:\n%s\nbefore\n%s", after, before)
	}
}

// A datastore that is half made anew is gone on with, never given up.
func TestAbortOfARecovery(t *testing.T) {
	t.Parallel()
	root := fullNode(t)
	exit, out, errs := mk(t, root, "changes", "abort", "2")
	if os.Geteuid() != 0 {
		if exit != 50 {
			t.Errorf("exit %d: %s%s", exit, out, errs)
		}
		return
	}
	if exit != 1 || !strings.Contains(errs, "next  mk datastore recover goes on where it stopped") {
		t.Errorf("exit %d: %s%s", exit, out, errs)
	}
	if _, out, _ := mk(t, root, "changes"); !strings.Contains(out, "datastore recover  open") {
		t.Errorf("it is not open any more:\n%s", out)
	}
}
