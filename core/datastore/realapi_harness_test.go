//go:build realapi

package datastore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// insideEnv marks the second run of the test program, in a network namespace of its own.
const insideEnv = "MK_DATASTORE_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := loopback(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "real datastore:", err)
		os.Exit(1)
	}
}

func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// world is a datastore of real members on addresses of the loopback.
type world struct {
	t       *testing.T
	dir     string
	program string
	tls     *tls.Config
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	members map[string]*exec.Cmd
}

func newWorld(t *testing.T) *world {
	t.Helper()
	out := os.Getenv("MK_OUT")
	if out == "" {
		t.Fatal("MK_OUT is not set: the folder that holds bin/kubelite")
	}
	w := &world{t: t, dir: t.TempDir(), program: filepath.Join(out, "bin", "kubelite"), members: map[string]*exec.Cmd{}}
	w.makePair()
	t.Cleanup(func() {
		for name := range w.members {
			w.kill(name)
		}
		if t.Failed() {
			for _, log := range []string{"a", "b", "c"} {
				data, err := os.ReadFile(filepath.Join(w.dir, log+".log"))
				if err == nil {
					t.Logf("%s.log:\n%s", log, data[max(0, len(data)-1500):])
				}
			}
		}
	})
	return w
}

// host is a member's address: a is 127.0.0.1, b 127.0.0.2.
func host(name string) string   { return fmt.Sprintf("127.0.0.%d", name[0]-'a'+1) }
func peer(name string) string   { return "https://" + host(name) + ":2380" }
func client(name string) string { return "https://" + host(name) + ":12379" }

func cluster(names string) string {
	var out []string
	for _, n := range strings.Fields(names) {
		out = append(out, n+"="+peer(n))
	}
	return strings.Join(out, ",")
}

// start starts a member, of a new cluster of all names, or of one that exists.
func (w *world) start(name, state, names string, more ...string) {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	pair := func(prefix string) []string {
		return []string{
			"--" + prefix + "cert-file=" + w.path("pair.crt"), "--" + prefix + "key-file=" + w.path("pair.key"),
			"--" + prefix + "trusted-ca-file=" + w.path("ca.crt"), "--" + prefix + "client-cert-auth",
		}
	}
	args := append([]string{
		"etcd", "--name=" + name, "--data-dir=" + w.path(name), "--listen-peer-urls=" + peer(name), "--initial-advertise-peer-urls=" + peer(name),
		"--listen-client-urls=" + client(name), "--advertise-client-urls=" + client(name), "--initial-cluster=" + cluster(names),
		"--initial-cluster-state=" + state, "--initial-cluster-token=t", "--unsafe-no-fsync", "--logger=zap",
	}, append(append(pair(""), pair("peer-")...), more...)...)
	cmd := exec.Command(w.program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.members[name] = cmd
}

func (w *world) kill(name string) {
	_ = w.members[name].Process.Kill()
	_ = w.members[name].Wait()
	delete(w.members, name)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// client asks the members of these names, in this order.
func (w *world) client(names ...string) *Client {
	w.t.Helper()
	o := Options{TLS: w.tls}
	for _, n := range names {
		o.Endpoints = append(o.Endpoints, client(n))
	}
	c := New(o)
	w.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return c
}

// grow makes a cluster of these names, the first one new, the others joined.
func (w *world) grow(ctx context.Context, names ...string) *Client {
	w.t.Helper()
	w.start(names[0], "new", names[0])
	c := w.client(names[0])
	w.until(ctx, c, func(s *Status) bool { return s.Quorum && s.Leader != "" })
	for i, n := range names[1:] {
		if err := c.AddLearner(ctx, peer(n)); err != nil {
			w.t.Fatal(err)
		}
		w.start(n, "existing", strings.Join(names[:i+2], " "))
		if err := c.Promote(ctx, peer(n), nil); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

// until waits for a status.
func (w *world) until(ctx context.Context, c *Client, want func(*Status) bool) *Status {
	w.t.Helper()
	for {
		s, err := c.Status(ctx)
		if err == nil && want(s) {
			return s
		}
		if pause(ctx, poll) != nil {
			w.t.Fatalf("status %+v, %v", s, err)
		}
	}
}

// keys lets etcd's own client work on what is stored, at the members that a client knows.
func (w *world) keys(ctx context.Context, c *Client, do func(context.Context, *clientv3.Client) error) {
	w.t.Helper()
	e, err := clientv3.New(clientv3.Config{Endpoints: c.known(), TLS: c.tls, Logger: zap.NewNop()})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(do(ctx, e), e.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// write writes a key, and returns when it is committed.
func (w *world) write(ctx context.Context, c *Client, key, value string) {
	w.t.Helper()
	w.keys(ctx, c, func(ctx context.Context, e *clientv3.Client) error {
		_, err := e.Put(ctx, key, value)
		return err
	})
}

// read reads a key; one that is not there is empty.
func (w *world) read(ctx context.Context, c *Client, key string) (value string) {
	w.t.Helper()
	w.keys(ctx, c, func(ctx context.Context, e *clientv3.Client) error {
		resp, err := e.Get(ctx, key)
		if err == nil && len(resp.Kvs) > 0 {
			value = string(resp.Kvs[0].Value)
		}
		return err
	})
	return value
}

// makePair makes one pair for everybody.
func (w *world) makePair() {
	w.t.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	w.issue("ca", ca)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mk:datastore"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for i := range byte(4) {
		leaf.IPAddresses = append(leaf.IPAddresses, net.IPv4(127, 0, 0, i))
	}
	w.issue("pair", leaf)
	pair, err := tls.LoadX509KeyPair(w.path("pair.crt"), w.path("pair.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(w.ca)
	w.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool}
}

func (w *world) issue(name string, c *x509.Certificate) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.key == nil {
		w.ca, w.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, w.ca, &key.PublicKey, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	if c.IsCA {
		if w.ca, err = x509.ParseCertificate(der); err != nil {
			w.t.Fatal(err)
		}
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(w.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}
