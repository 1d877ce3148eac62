//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTime is what happens to a node over time: its addresses change, and its
// certificates are renewed. Nothing is restarted for it.
func TestTime(t *testing.T) {
	m := newMachine(t, 12, true)
	m.run("mk", "start", "--name", "node-t")
	m.run("mk", "enable", "dns")
	processes, restarts := m.processes(), podRestarts(m)
	t.Run("30 address changes in a minute lead to one reissue", func(t *testing.T) { manyAddresses(t, m) })
	t.Run("a bridge of containers leads to none", func(t *testing.T) { containerBridge(t, m) })
	looked := looksForEnded(t, m)
	t.Run("everything serves the renewed certificates", func(t *testing.T) { servesRenewed(t, m) })
	t.Run("short-lived certificates are renewed and served by themselves", func(t *testing.T) { renewsItself(t, m) })
	looked()
	if now := m.processes(); !maps.Equal(now, processes) {
		t.Errorf("services were %v, are %v", processes, now)
	}
	if now := podRestarts(m); now != restarts {
		t.Errorf("restarts of pods were %s, are %s", restarts, now)
	}
	if os.Getenv("MK_CHAOS") != "" { // it takes minutes
		t.Run("every program asks with its new certificate", func(t *testing.T) { clientsRenew(t, m) })
	}
}

func podRestarts(m *machine) string {
	m.t.Helper()
	return m.kubectl("get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[*].restartCount} {end}`)
}

// follows are the node's operations that took addresses over, each with what
// it took.
func follows(m *machine) [][]string {
	m.t.Helper()
	var all []struct {
		Verb, State string
		Params      json.RawMessage
	}
	if err := json.Unmarshal([]byte(m.run("mk", "changes", "-o", "json")), &all); err != nil {
		m.t.Fatal(err)
	}
	var out [][]string
	for _, r := range all {
		if r.Verb != "follow addresses" || r.State != "done" {
			continue
		}
		var took []string
		if err := json.Unmarshal(r.Params, &took); err != nil {
			m.t.Fatal(err)
		}
		out = append(out, took)
	}
	return out
}

// manyAddresses adds and removes addresses every two seconds for a minute.
func manyAddresses(t *testing.T, m *machine) {
	t.Helper()
	before, serial := len(follows(m)), serialOf(m, "127.0.0.1:16443")
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for i := range 30 {
		verb := "add"
		if i%3 == 2 { // of three, one goes again
			verb = "del"
		}
		m.run("ip", "addr", verb, fmt.Sprintf("10.88.0.%d/24", 1+i-i%3/2), "dev", "eth0")
		<-tick.C
	}
	m.eventually(time.Minute, func() error {
		if n := len(follows(m)) - before; n == 0 {
			return served("no operation yet")
		}
		return nil
	})
	all := follows(m)[before:]
	if len(all) != 1 || len(all[0]) != 10 {
		t.Errorf("30 changes that leave 10 addresses led to %v", all)
	}
	m.eventually(90*time.Second, func() error {
		if serialOf(m, "127.0.0.1:16443") == serial {
			return errServed
		}
		return nil
	})
	if text := served("\n" + m.run("openssl", "x509", "-in", m.Root+"/certs/server.crt", "-noout", "-text")); !strings.Contains(string(text), "10.88.0.28") {
		t.Errorf("the new addresses are not in the certificate:%s", text)
	}
}

// containerBridge makes what docker makes, and then an address of the node's,
// whose operation shows that the bridge was seen and led to nothing.
func containerBridge(t *testing.T, m *machine) {
	t.Helper()
	before := follows(m)
	for _, words := range []string{
		"link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up",
		"link add veth1a2b3c type veth peer name inside", "link set veth1a2b3c master docker0", "link set veth1a2b3c up",
		"addr add 172.17.0.2/16 dev inside", "link set inside up",
		"addr add 10.89.0.1/24 dev eth0",
	} {
		m.run("ip", strings.Fields(words)...)
	}
	m.eventually(time.Minute, func() error {
		if len(follows(m)) == len(before) {
			return served("no operation yet")
		}
		return nil
	})
	after := follows(m)[len(before):]
	if len(after) != 1 || !slices.Contains(after[0], "10.89.0.1") || slices.Contains(after[0], "172.17.0.1") {
		t.Errorf("a bridge and an address led to %v", after)
	}
}

// ports are those on which a node's programs serve TLS: the API server, the
// kubelet, the controller manager, the scheduler, etcd for its clients and for
// its peers, and the agent.
func ports(m *machine) []string {
	return []string{"127.0.0.1:16443", "127.0.0.1:10250", "127.0.0.1:10257", "127.0.0.1:10259", "127.0.0.1:12379", m.Address + ":2380", "127.0.0.1:25000"}
}

// looksForEnded looks every second, until looked is called, that nobody serves a
// certificate that has ended or is not valid yet.
func looksForEnded(t *testing.T, m *machine) (looked func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan map[string]int, 1)
	go func() {
		n := map[string]int{}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, address := range ports(m) {
				conn, err := m.dial(ctx, "tcp", address)
				if err != nil {
					continue // it is counted
				}
				c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is what is looked at
				if c.HandshakeContext(ctx) == nil {
					n[address]++
					cert, now := c.ConnectionState().PeerCertificates[0], time.Now()
					if now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
						t.Errorf("at %s, %s serves what is valid from %s to %s", now, address, cert.NotBefore, cert.NotAfter)
					}
				}
				_ = c.Close()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		seen <- n
	}()
	return func() {
		t.Helper()
		stop()
		n := <-seen
		t.Logf("certificates were looked at %v times", n)
		for _, address := range ports(m) {
			if n[address] < 60 {
				t.Errorf("what %s serves was seen %d times", address, n[address])
			}
		}
	}
}

// serialOf is the serial number of the certificate that is served there, and
// its end.
func serialOf(m *machine, address string) string {
	m.t.Helper()
	return m.run("sh", "-c", "openssl s_client -connect "+address+" </dev/null 2>/dev/null | openssl x509 -noout -serial -enddate")
}

func serials(m *machine) map[string]string {
	m.t.Helper()
	out := map[string]string{}
	for _, address := range ports(m) {
		out[address] = serialOf(m, address)
	}
	return out
}

// servesOther waits until nobody serves what was served before.
func servesOther(m *machine, before map[string]string, timeout time.Duration) {
	m.t.Helper()
	deadline := time.Now().Add(timeout)
	for _, address := range ports(m) {
		m.eventually(max(time.Until(deadline), time.Second), func() error {
			if serialOf(m, address) == before[address] {
				return served(address + " serves the old certificate")
			}
			return nil
		})
	}
}

// lifetimes is the file that says how long certificates live.
func lifetimes(m *machine) string { return filepath.Join(m.Root, "plugins/settings/certs-local.json") }

// servesRenewed renews everything, as what lives for minutes only, and waits
// until nobody serves the old.
func servesRenewed(t *testing.T, m *machine) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(lifetimes(m)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lifetimes(m), []byte(`{"lifetime": "10m"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	before := serials(m)
	m.run("mk", "refresh-certs")
	servesOther(m, before, 100*time.Second)
	// What asks with a certificate is answered: etcd, the API server, the kubelet.
	m.run("mk", "status", "--wait-ready", "--timeout", "60s")
	m.kubectl("get", "--raw", "/readyz")
	m.eventually(90*time.Second, func() error {
		_, err := m.try(10*time.Second, "mk", "kubectl", "get", "--raw", "/api/v1/nodes/node-t/proxy/healthz")
		return err
	})
}

// renewsItself waits until everybody serves what nobody has asked for: two
// thirds of ten minutes, of which five lie before they were signed.
func renewsItself(t *testing.T, m *machine) {
	t.Helper()
	before := serials(m)
	for address, text := range before {
		_, end, _ := strings.Cut(text, "notAfter=")
		at, err := time.Parse("Jan _2 15:04:05 2006 MST", strings.TrimSpace(end))
		if err != nil || time.Until(at) > 5*time.Minute {
			t.Errorf("%s serves until %q, which is not short: %v", address, end, err)
		}
	}
	servesOther(m, before, 4*time.Minute) // as quick as 100 s and a look at the files
	var all []struct {
		Verb, State, User string
		PID               int
	}
	if err := json.Unmarshal([]byte(m.run("mk", "changes", "-o", "json")), &all); err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, r := range all {
		if r.Verb == "refresh-certs" && r.State == "done" {
			own++
		}
	}
	if own < 2 {
		t.Errorf("operations: %+v", all)
	}
	m.kubectl("get", "--raw", "/readyz")
}

// auditPolicy has each request noted with who asked, and by which certificate.
const auditPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"

// clientsRenew renews everything and waits until every program asks with its
// new certificate: they look every five minutes. What lives for minutes only
// would be renewed again before.
func clientsRenew(t *testing.T, m *machine) {
	t.Helper()
	if err := os.RemoveAll(lifetimes(m)); err != nil {
		t.Fatal(err)
	}
	policy, log := filepath.Join(m.Root, "args", "audit.yaml"), filepath.Join(m.Root, "var", "log", "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run("mk", "args", "set", "kube-apiserver", "audit-policy-file="+policy, "--no-wait")
	m.run("mk", "args", "set", "kube-apiserver", "audit-log-path="+log)
	m.run("mk", "status", "--wait-ready", "--timeout", "120s")
	processes := kubelites(t, m)
	m.run("mk", "refresh-certs")
	want := map[string]string{}
	for user, file := range map[string]string{
		"system:node:node-t": "kubelet", "system:kube-controller-manager": "controller", "system:kube-scheduler": "scheduler",
		"system:kube-proxy": "proxy", "mk:flanneld:node-t": "flanneld", "admin": "client",
	} {
		data, err := os.ReadFile(filepath.Join(m.Root, "certs", file+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		want[user] = fmt.Sprintf("X509SHA256=%x", sha256.Sum256(block.Bytes))
	}
	m.eventually(11*time.Minute, func() error {
		if _, err := m.try(20*time.Second, "mk", "kubectl", "get", "nodes"); err != nil { // the admin asks, too
			return err
		}
		last, err := lastCredentials(log)
		if err != nil {
			return err
		}
		for user, id := range want {
			if last[user] != id {
				return served(user + " asks with " + last[user] + ", not with " + id)
			}
		}
		return nil
	})
	if now := kubelites(t, m); now != processes {
		t.Errorf("kubelite and etcd were %s, are %s", processes, now)
	}
}

// lastCredentials is, by user, the credential of the last request.
func lastCredentials(log string) (map[string]string, error) {
	data, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	last := map[string]string{}
	for line := range bytes.Lines(data) {
		var e struct {
			User struct {
				Username string
				Extra    map[string][]string
			}
		}
		if err := json.Unmarshal(line, &e); err != nil {
			continue // being written
		}
		if id := e.User.Extra["authentication.kubernetes.io/credential-id"]; len(id) == 1 {
			last[e.User.Username] = id[0]
		}
	}
	return last, nil
}
