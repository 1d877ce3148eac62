package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/lock"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/neighbour"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/pluginhost"
	"mk8s.io/mk/core/service"
	pluginproblem "mk8s.io/mk/pluginsdir/problem"
	"mk8s.io/mk/sdk/plugin"
)

// messages are those that users see when something is wrong, by the name of
// their golden file.
func messages(ctx context.Context) map[string]error {
	since := time.Date(2026, 11, 23, 3, 12, 0, 0, time.UTC)
	snap := &neighbour.Found{Name: "the snap microk8s", PID: 811, Process: "/snap/microk8s/9/kubelite", Ports: []int{16443}, Stop: "sudo snap stop --disable microk8s"}
	return map[string]error{
		"needs-root":         needsRoot(&fs.PathError{Op: "open", Path: "/var/lib/mk/node.json", Err: syscall.EACCES}, 1000),
		"port-taken":         fmt.Errorf("start: %w", &operation.PortError{Port: 10250, For: "the kubelet", By: "/usr/bin/nginx (pid 12)"}),
		"port-of-another":    fmt.Errorf("start: %w", &operation.PortError{Port: 16443, For: "the API server", By: "kubelite (pid 811)", Kubernetes: snap}),
		"another-kubernetes": fmt.Errorf("start: %w", &operation.NeighbourError{Found: *snap}),
		"wrong-server":       fmt.Errorf("join: %w", &peer.WrongServerError{Address: "10.0.0.4:25000", Got: strings.Repeat("9c", 32), Want: strings.Repeat("3a", 32)}),
		"token-used": cannotJoin(&plugin.Error{Reason: plugin.TokenUsed, Message: "the token was used: node-b joined with it 2026-11-23 14:02 UTC",
			Next: "on node-a: mk add-node"}, unchanged),
		"join-silent": cannotJoin(&membership.SilentError{Step: "become a member", Err: fmt.Errorf("ask clustering/etcd: %w",
			&plugin.Error{Reason: peer.Unreachable, Message: "https://10.0.0.4:25000 does not answer: net/http: TLS handshake timeout"})}, ""),
		"leave-silent": cannotLeave(&membership.SilentError{Step: "tell the cluster", Open: true, Err: errors.Join(
			fmt.Errorf("10.0.0.4:25000: %w", &plugin.Error{Reason: peer.Unreachable, Message: "https://10.0.0.4:25000 does not answer: net/http: TLS handshake timeout"}),
			fmt.Errorf("10.0.0.5:25000: %w", &plugin.Error{Reason: peer.Unreachable, Message: "https://10.0.0.5:25000 does not answer: connection refused"}))}, "node-c"),
		"clocks": cannotJoin(fmt.Errorf("look: %w", &membership.SkewError{Node: "node-a", Here: since, There: since.Add(47 * time.Minute)}), unchanged),
		"port-closed": cannotJoin(&membership.PortsError{Server: "node-a", Joiner: "node-d", Back: true, Open: []string{"25000", "16443"},
			Closed: []membership.ClosedPort{{From: "node-a", To: "node-d", Address: "10.8.0.9", Port: 2380, Why: "no answer in 3 s"}}}, unchanged),
		"not-ready": fmt.Errorf("start: %w", &operation.NotReadyError{Service: "kubelite", State: "restarting", Restarts: 6,
			LastError: `open /var/lib/mk/certs/server.key: no such file`, Err: context.DeadlineExceeded}),
		"not-ready-in-time": fmt.Errorf("start: %w", &operation.NotReadyError{Service: "kubelite", State: "running",
			LastError: "apiserver: dial tcp 127.0.0.1:12379: connection refused", Err: fmt.Errorf("wait for the API server: %w", context.DeadlineExceeded)}),
		"not-up": fmt.Errorf("change 5.1: %w", &service.StartError{Service: "etcd", What: "it ended 3 times before it was ready (exit status 2)",
			LastError: "flag provided but not defined: -no-such-flag"}),
		"unwell": unwell(ctx, &operation.NotReadyError{Service: "kubelite", State: "backoff", Restarts: 5,
			LastError: "Error: kube-apiserver: unknown flag: --no-such-flag", Err: context.Canceled}, 12),
		"plugin-integrity": fmt.Errorf("ask certs/stepca: %w", &pluginhost.IntegrityError{
			Path: "/var/lib/mk/plugins/store/stepca/bin/stepca", Want: "sha256:3fd0" + strings.Repeat("0", 60), Got: "sha256:77ab" + strings.Repeat("0", 60)}),
		"plugin-refused": pluginproblem.Refused("certs/stepca 1.2.0 was not installed", "its manifest names bin/stepca, whose sha256 is another", "get the folder again from its vendor"),
		"plugin-crashed": fmt.Errorf("join: %w", &pluginhost.CrashError{Plugin: "clustering/etcd", Version: "1.3.0", Question: "Serve a join",
			Reason: "panic: assignment to entry in nil map (join.go:88)", Lines: []string{"goroutine 1"}}),
		"plugin-answer": fmt.Errorf("issue: %w", &plugin.Error{Reason: plugin.NotPossible,
			Message: "certs/stepca cannot sign server.crt: the CA refuses 365 days", Next: "mk plugin config set certs/stepca lifetime=max"}),
		"clock": fmt.Errorf("%w: it says 1970", pki.ErrClock),
		"no-quorum": fmt.Errorf("remove a member: %w", &datastore.QuorumError{Status: &datastore.Status{Members: []datastore.Member{
			{Name: "node-a", PeerAddress: "https://10.0.0.4:2380", Role: datastore.Voter, Answers: true},
			{Name: "node-b", PeerAddress: "https://10.0.0.5:2380", Role: datastore.Voter, Since: since.Add(-31 * time.Minute)},
			{Name: "node-c", PeerAddress: "https://10.0.0.6:2380", Role: datastore.Voter, Since: since.Add(-29 * time.Minute)}}}}),
		"no-node":      fmt.Errorf("/var/lib/mk: %w", operation.ErrNoNode),
		"not-running":  fmt.Errorf("kubelite: %w", service.ErrNotRunning),
		"waiting":      &lock.HeldError{Holder: lock.Owner{PID: 4121, User: "root", Verb: "join", Since: since}, At: since.Add(12 * time.Second), Cause: context.DeadlineExceeded},
		"open-change":  &operation.OpenError{Record: &operation.Record{Number: 118, Verb: "start", Error: "it was interrupted"}},
		"bad-args":     fmt.Errorf("read: %w", &args.SyntaxError{File: "/var/lib/mk/args/kubelet", Line: 3, Fault: "a quote is not closed"}),
		"disk-full":    &fs.PathError{Op: "write", Path: "/var/lib/mk/node.json", Err: syscall.ENOSPC},
		"unknown-flag": flagProblem("mk status", globalFlags(newSession(nil, nil, nil, nil, nil)), "flag provided but not defined: -ouptut"),
		"long":         fmt.Errorf("write the file %s: %w", strings.Repeat("/a-folder", 5), errors.New("one thing after another went wrong\nand another\x1b[2J")),
	}
}

// The messages are read by people and by programs: both forms are kept in
// files. MK_UPDATE_GOLDEN=1 writes them anew.
func TestMessages(t *testing.T) {
	for name, err := range messages(t.Context()) {
		for _, output := range []string{"pretty", "json"} {
			s, out, errs := testSession(t, output)
			s.global.verbose = true
			exit := s.finish(t.Context(), err)
			text := fmt.Appendf(nil, "%s%sexit  %d\n", out, errs, exit)
			file := filepath.Join("testdata", "messages", name+"."+map[string]string{"pretty": "txt", "json": "json"}[output])
			golden(t, file, text)
			first, _, _ := strings.Cut(errs.String(), "\n")
			if len([]rune(first)) > 100 {
				t.Errorf("%s: its first line has %d letters", name, len([]rune(first)))
			}
		}
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if os.Getenv("MK_UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s\ngot\n%s\nwant\n%s", file, got, want)
	}
}

// Every golden file is that of a message.
func TestMessageFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/messages/*")
	if err != nil {
		t.Fatal(err)
	}
	all := messages(t.Context())
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), filepath.Ext(f))
		if _, ok := all[name]; !ok {
			t.Errorf("%s belongs to no message", f)
		}
	}
}
