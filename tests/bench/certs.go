package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/version"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/tests/machine"
)

//go:embed openssl.sh
var opensslScript string

// certs compares processor time for all keys, certificates and kubeconfigs of
// a node: the core with its certs plugin, what MicroK8s' scripts do, kubeadm.
func (b *bench) certs(ctx context.Context) ([]row, error) {
	dir, err := machine.Folder()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // its own folder
	var rows []row
	programs := ""
	script := func() (float64, error) {
		c, err := spend(exec.CommandContext(ctx, "bash", "-c", opensslScript, "openssl.sh", filepath.Join(dir, "openssl")))
		programs = strings.TrimSpace(c.out)
		return inMS(c.cpu), errors.Join(err, os.RemoveAll(filepath.Join(dir, "openssl")))
	}
	for _, kt := range []struct {
		ours   pki.KeyType
		theirs string
		aim    float64
		rounds int // the time for an RSA key varies
	}{{pki.ECDSAP256, "ECDSA-P256", 30, 5}, {pki.RSA2048, "RSA-2048", 4, 15}} {
		b.say("keys, certificates and kubeconfigs, %s", kt.theirs)
		values, err := inTurns(b.times(kt.rounds, 1),
			func() (float64, error) { return b.spendIdentity(ctx, dir, kt.ours) },
			script,
			func() (float64, error) { return b.kubeadm(ctx, dir, kt.theirs) })
		if err != nil {
			return rows, err
		}
		m := medians(values)
		what := "identity of a node, " + kt.theirs + ", processor"
		rows = append(rows,
			row{what: what, ours: ms(m[0]), peer: ms(m[1]) + ", " + programs, value: m[1] / m[0], unit: "x less", aim: kt.aim, least: true},
			row{what: what, ours: ms(m[0]), peer: ms(m[2]) + ", kubeadm", value: m[0] / m[2], unit: "x", aim: 1})
	}
	return rows, nil
}

// kubeadm makes a control plane's certificates and kubeconfigs.
func (b *bench) kubeadm(ctx context.Context, dir, algorithm string) (float64, error) {
	at := filepath.Join(dir, "kubeadm")
	defer os.RemoveAll(at) //nolint:errcheck // its own folder
	if err := os.MkdirAll(at, 0o755); err != nil {
		return 0, err
	}
	config := filepath.Join(at, "config.yaml")
	err := os.WriteFile(config, []byte(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.77.1.2, bindPort: 16443}
nodeRegistration: {name: bench}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: `+operation.KubernetesVersion+`
certificatesDir: `+at+`/pki
encryptionAlgorithm: `+algorithm+`
`), 0o600)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, words := range [][]string{{"certs", "all"}, {"kubeconfig", "all", "--kubeconfig-dir", at}} {
		words = append(append([]string{"init", "phase"}, words...), "--config", config)
		c, err := spend(exec.CommandContext(ctx, filepath.Join(b.out, "testbin/kubeadm"), words...))
		if err != nil {
			return 0, err
		}
		sum += c.cpu
	}
	return inMS(sum), nil
}

// identityWord makes this program the process that is measured.
const identityWord = "identity"

// spendIdentity has a process of its own make all keys, certificates and
// kubeconfigs of a new node. What is installed once, plugins, is there before.
func (b *bench) spendIdentity(ctx context.Context, dir string, kt pki.KeyType) (float64, error) {
	root := filepath.Join(dir, "mk")
	defer os.RemoveAll(root) //nolint:errcheck // its own folder
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	words := []string{identityWord, root, filepath.Join(b.out, "bin/mk"), string(kt)}
	if _, err := spend(exec.CommandContext(ctx, self, append(words, "prepare")...)); err != nil {
		return 0, err
	}
	c, err := spend(exec.CommandContext(ctx, self, words...))
	if err != nil {
		return 0, err
	}
	for _, f := range []string{"certs/server.crt", "credentials/client.config", "certs/serviceaccount.key", "var/kubernetes/backend/cluster.crt"} {
		if _, err := os.Stat(filepath.Join(root, f)); err != nil {
			return 0, fmt.Errorf("not all was made: %w", err)
		}
	}
	return inMS(c.cpu), nil
}

// identity is that process: the core's issuer, the plugin in its cell, and
// files that are synced and renamed.
func identity(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	n, err := operation.CreateNode(operation.Options{
		Root: args[0], Executable: args[1], Version: version.Version, Verb: "bench", User: "bench", Now: time.Now,
		Env: os.Getenv, Settings: map[string]string{"key-type": args[2]},
	})
	if err != nil {
		return err
	}
	if len(args) > 3 {
		return errors.Join(n.InstallShipped(ctx), n.Close())
	}
	n.Record = node.NewRecord("bench", time.Now())
	n.Record.Address, n.Issuer.Record = "10.77.1.2", n.Record
	return errors.Join(makeIdentity(ctx, n), n.Close())
}

// makeIdentity makes everything and puts it into its places.
func makeIdentity(ctx context.Context, n *operation.Node) error {
	var all []change.File
	for _, name := range certs.Names() {
		p, _, err := n.Plugins.Certs(ctx, name)
		if err != nil {
			return err
		}
		a, err := p.Bootstrap(ctx, certs.BootstrapRequest{Call: plugin.Call{OperationID: "bench-" + name}, Authority: name, Generation: 1,
			KeyType: string(n.Issuer.KeyType), Now: n.Now()})
		if err != nil {
			return err
		}
		files, err := n.Issuer.Trust(changeset.SetTrust{Authority: name, Bundle: a.ServerBundle, ClientBundle: a.ClientBundle})
		if err != nil {
			return err
		}
		all = append(all, files...)
	}
	key, err := pki.NewTokenKey(n.Issuer.KeyType)
	if err != nil {
		return err
	}
	all = append(all, change.File{Path: "certs/serviceaccount.key", Content: key})
	var wanted []changeset.IssueCertificate
	for _, p := range pki.Profiles() {
		if p.File != "" {
			wanted = append(wanted, changeset.IssueCertificate{Profile: p.Name})
		}
	}
	files, err := n.Issuer.Issue(ctx, "bench", wanted)
	if err != nil {
		return err
	}
	return put(n.Root, append(all, files...))
}

// put writes what goes below certs as one generation, and the rest.
func put(root *node.Root, files []change.File) error {
	return root.SwitchCerts(func(dir string) error {
		for _, f := range files {
			name := f.Path
			if in, ok := strings.CutPrefix(name, "certs/"); ok {
				name = dir + "/" + in
			}
			if err := root.WriteFile(name, f.Content, root.Secret()); err != nil {
				return err
			}
		}
		return nil
	})
}
