//go:build realapi

package kube

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// insideEnv marks the second run of the test program, in a network namespace of its own: kube-proxy would change the
// machine's rules, and the ports may be taken.
const insideEnv = "MK_REALAPI_INSIDE"

const advertised = "192.0.2.7"

// certificateEnv names a certificate that a test may hand out.
const certificateEnv = "MK_REALAPI_CERTIFICATE"

// realClient is the one real API server of all tests, found after TestMain has started it.
var realClient *Client

// realSet is all of client-go's own clients, with realClient's access: for what tests do that mk does not.
func realSet() kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(rest.CopyConfig(realClient.config))
}

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(runInside())
	}
	os.Exit(runWithServer(m))
}

func runInside() int {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "real API:", err)
		return 1
	}
	return 0
}

func runWithServer(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mk-realapi-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	s := &realServer{dir: dir}
	defer s.stop()
	if err := s.start(); err != nil {
		fmt.Fprintln(os.Stderr, "real API:", err, "\n", s.tail())
		return 1
	}
	if err := os.Setenv(certificateEnv, s.path("admin.crt")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code != 0 && os.Getenv("MK_REALAPI_LOG") != "" {
		fmt.Fprintln(os.Stderr, s.tail())
	}
	return code
}

type realServer struct {
	dir  string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	cmds []*exec.Cmd
}

func (s *realServer) path(name string) string { return filepath.Join(s.dir, name) }

func (s *realServer) tail() string {
	var b strings.Builder
	for _, name := range []string{"etcd.log", "kubelite.log"} {
		data, _ := os.ReadFile(s.path(name))
		b.WriteString(name + ":\n" + string(data[max(0, len(data)-6000):]))
	}
	return b.String()
}

func (s *realServer) stop() {
	for _, cmd := range s.cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // a second Wait only fails
	}
}

func (s *realServer) start() error {
	out := os.Getenv("MK_OUT")
	if out == "" {
		return fmt.Errorf("MK_OUT is not set: the folder that holds bin/kubelite")
	}
	program := filepath.Join(out, "bin", "kubelite")
	if _, err := os.Stat(program); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	// The API server wants an address that is not loopback to advertise.
	address, err := netlink.ParseAddr(advertised + "/32")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(lo, address); err != nil {
		return err
	}
	if err := s.files(); err != nil {
		return err
	}
	if err := s.run(program, "etcd.log", "etcd", "--data-dir="+s.path("etcd"),
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380", "--unsafe-no-fsync"); err != nil {
		return err
	}
	if err := s.run(program, "kubelite.log",
		"--apiserver-args-file="+s.path("apiserver"), "--controller-manager-args-file="+s.path("controller-manager"),
		"--scheduler-args-file="+s.path("scheduler"), "--kubelet-args-file="+s.path("kubelet"), "--proxy-args-file="+s.path("proxy")); err != nil {
		return err
	}
	realClient, err = ConnectFile(s.path("admin.config"), Options{Version: "test"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	go func() {
		_ = s.cmds[1].Wait()
		cancel()
	}()
	return realClient.WaitReady(ctx, func(text string) { fmt.Fprintln(os.Stderr, text) })
}

func (s *realServer) run(program, log string, args ...string) error {
	file, err := os.Create(s.path(log))
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmds = append(s.cmds, cmd)
	return nil
}

// files writes certificates, kubeconfigs and args. The kubelet waits all the while for a certificate that nobody approves,
// so that a server without a container runtime keeps running.
func (s *realServer) files() error {
	if err := s.certs(); err != nil {
		return err
	}
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority: ca.crt}}]
users: [{name: u, user: {client-certificate: admin.crt, client-key: admin.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`)
	lists := map[string][]string{
		"admin.config": {kubeconfig},
		"apiserver": {
			"--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--advertise-address=" + advertised, "--secure-port=6443", "--authorization-mode=Node,RBAC",
			"--tls-cert-file=" + s.path("server.crt"), "--tls-private-key-file=" + s.path("server.key"), "--client-ca-file=" + s.path("ca.crt"),
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + s.path("sa.key"),
			"--service-account-signing-key-file=" + s.path("sa.key"), "--service-cluster-ip-range=10.152.183.0/24", "--cert-dir=" + s.path("run"),
		},
		"controller-manager": {
			"--kubeconfig=" + s.path("admin.config"), "--leader-elect=false", "--bind-address=127.0.0.1", "--cert-dir=" + s.path("run"),
			"--service-account-private-key-file=" + s.path("sa.key"), "--root-ca-file=" + s.path("ca.crt"), "--use-service-account-credentials=false",
		},
		"scheduler": {"--kubeconfig=" + s.path("admin.config"), "--leader-elect=false", "--bind-address=127.0.0.1", "--cert-dir=" + s.path("run")},
		"kubelet": {
			"--bootstrap-kubeconfig=" + s.path("admin.config"), "--kubeconfig=" + s.path("kubelet.config"), "--cert-dir=" + s.path("pki"),
			"--root-dir=" + s.path("kubelet-root"), "--hostname-override=waits", "--fail-cgroupv1=false",
		},
		"proxy": {"--kubeconfig=" + s.path("admin.config"), "--hostname-override=waits", "--conntrack-max-per-core=0", "--bind-address=127.0.0.1"},
	}
	for name, lines := range lists {
		if err := os.WriteFile(s.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *realServer) certs() error {
	template := func(cn string, groups ...string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn, Organization: groups},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	ca := template("ca")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	if err := s.issue("ca", ca); err != nil {
		return err
	}
	server := template("server")
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	server.DNSNames = []string{"localhost"}
	if err := s.issue("server", server); err != nil {
		return err
	}
	if err := s.issue("sa", template("sa")); err != nil {
		return err
	}
	return s.issue("admin", template("admin", "system:masters"))
}

func (s *realServer) issue(name string, cert *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if s.ca == nil {
		s.ca, s.key = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, s.ca, &key.PublicKey, s.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	var crt, k bytes.Buffer
	_ = pem.Encode(&crt, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	_ = pem.Encode(&k, &pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	if err := os.WriteFile(s.path(name+".crt"), crt.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(s.path(name+".key"), k.Bytes(), 0o600)
}
