package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/tests/machine"
)

const (
	// agentsWord and fanoutWord make this program the agents, and who asks them.
	agentsWord = "agents"
	fanoutWord = "fanout"
	// slowest is how long an agent thinks at most.
	slowest = 200 * time.Millisecond
	// answerSize is about what a node's arguments are.
	answerSize = 8 << 10
)

// fanout measures how long it takes to tell many agents of one argument, and
// to ask them all for theirs, with the code of mk args --all-nodes: agents are
// servers in another process, each with a certificate of its own.
func (b *bench) fanout(ctx context.Context) (rows []row, err error) {
	sizes := []int{10, 100, 1000}
	if b.smoke {
		sizes = sizes[:2]
	}
	memory := map[int]float64{}
	for _, size := range sizes {
		b.say("one argument to %d agents", size)
		got, err := b.fanoutTo(ctx, size, b.times(5, 3))
		if err != nil {
			return rows, err
		}
		memory[size] = got.memory
		rows = append(rows,
			row{what: fmt.Sprintf("one argument to %d agents", size), ours: fmt.Sprintf("%.3g s, processor %.3g s", got.told, got.processor), peer: fmt.Sprintf("%s at most, each", slowest), value: got.told, unit: "s", aim: 3, told: size < 1000},
			row{what: fmt.Sprintf("the arguments of %d agents", size), ours: fmt.Sprintf("%.3g s", got.asked), peer: fmt.Sprintf("%s at most, each", slowest), value: got.asked, unit: "s", aim: 3, told: size < 1000})
	}
	most := sizes[len(sizes)-1]
	return append(rows, row{what: fmt.Sprintf("memory to tell %d agents", most), ours: fmt.Sprintf("%.3g MB", memory[most]), peer: fmt.Sprintf("%.3g MB for 10", memory[10]),
		value: memory[most] - memory[10], unit: "MB more", aim: 16}), nil
}

// fanned is what it took, in seconds, with the processor's time of who told,
// and the most memory until all were told, in MB.
type fanned struct{ told, processor, memory, asked float64 }

func (b *bench) fanoutTo(ctx context.Context, size, times int) (out fanned, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	dir, err := machine.Folder()
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // its own folder
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	agents := exec.CommandContext(ctx, self, agentsWord, strconv.Itoa(size), dir)
	agents.Stderr = b.progress
	hold, err := agents.StdinPipe()
	if err != nil {
		return out, err
	}
	ready, err := agents.StdoutPipe()
	if err != nil {
		return out, err
	}
	if err := agents.Start(); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, hold.Close(), agents.Wait()) }()
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		return out, fmt.Errorf("%d agents do not start: %w", size, err)
	}
	var values [4][]float64
	for range times {
		c, err := spend(exec.CommandContext(ctx, self, fanoutWord, dir))
		if err != nil {
			return out, err
		}
		var one [4]float64
		if err := json.Unmarshal([]byte(c.out), &one); err != nil {
			return out, fmt.Errorf("%q: %w", c.out, err)
		}
		for i, v := range one {
			values[i] = append(values[i], v)
		}
	}
	m := medians(values[:])
	return fanned{m[0], m[1], m[2], m[3]}, nil
}

// askAgents is the process that asks. It prints the values of fanned.
func askAgents(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir := args[0]
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "node.crt"), filepath.Join(dir, "node.key"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	list, err := os.ReadFile(filepath.Join(dir, "ports"))
	if err != nil {
		return err
	}
	var members []*cluster.Member
	for i, word := range strings.Fields(string(list)) {
		port, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		members = append(members, &cluster.Member{Name: fmt.Sprintf("node-%d", i), Address: "127.0.0.1", AgentPort: port, State: cluster.Joined})
	}
	options := peer.Options{Roots: roots, Client: &pair}
	ask := func(path string, in any, least int) (float64, error) {
		var errs []error
		answers, begun := 0, time.Now()
		operation.AskMembers(ctx, options, members, path, in, func(name string, answer json.RawMessage, err error) {
			if answers++; err != nil || len(answer) < least {
				errs = append(errs, fmt.Errorf("%s answers %d bytes: %w", name, len(answer), err))
			}
		})
		if answers != len(members) {
			errs = append(errs, fmt.Errorf("%d of %d answer", answers, len(members)))
		}
		return time.Since(begun).Seconds(), errors.Join(errs...)
	}
	told, err := ask(peer.NudgePath, peer.Nudge{Generation: 1}, 0)
	if err != nil {
		return err
	}
	var spent syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &spent); err != nil {
		return err
	}
	processor := time.Duration(spent.Utime.Nano() + spent.Stime.Nano())
	memory, err := mostMemory()
	if err != nil {
		return err
	}
	asked, err := ask(peer.LookPath, peer.Look{What: operation.LookArguments, Words: []string{"kubelet"}}, answerSize)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode([]float64{told, processor.Seconds(), memory, asked})
}

// mostMemory is the most that this process had resident, in MB, without the
// pages of the program's file: how many of them there are is the system's
// choice.
func mostMemory() (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	mb := map[string]float64{}
	for line := range strings.Lines(string(data)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(line, " kB\n") {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				return 0, err
			}
			mb[name] = kb / 1000
		}
	}
	if mb["VmHWM"] == 0 || mb["RssFile"] == 0 {
		return 0, errors.New("the system does not say how much memory a process had")
	}
	return mb["VmHWM"] - mb["RssFile"], nil
}

// serveAgents is the process that is all the agents, until its input ends.
func serveAgents(ctx context.Context, args []string) error {
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	a, err := newAuthority()
	if err != nil {
		return err
	}
	own, err := a.pair(2)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		return err
	}
	var ports strings.Builder
	for i := range count {
		port, err := a.agent(ctx, i)
		if err != nil {
			return err
		}
		fmt.Fprintln(&ports, port)
	}
	for name, data := range map[string][]byte{
		"ports":    []byte(ports.String()),
		"ca.crt":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		"node.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}),
		"node.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(args[1], name), data, 0o600); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// authority signs for the agents and who asks them.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := certificate(1)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	if err == nil {
		a.pool.AddCert(a.cert)
	}
	return a, err
}

func certificate(serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprintf("mk:node:%d", serial)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) pair(serial int64) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate(serial), a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// agent serves as one, and answers its port. It thinks as long as its number
// says, the same in every run.
func (a *authority) agent(ctx context.Context, number int) (int, error) {
	pair, err := a.pair(int64(number) + 3)
	if err != nil {
		return 0, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	thinks := time.Duration(randv2.New(randv2.NewPCG(1, uint64(number))).Int64N(int64(slowest)))
	arguments, err := json.Marshal(map[string]string{"arguments": strings.Repeat("x", answerSize)})
	if err != nil {
		return 0, err
	}
	s := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 64<<10)); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			select {
			case <-time.After(thinks):
			case <-r.Context().Done():
			}
			if r.URL.Path == peer.LookPath {
				_, _ = w.Write(arguments)
				return
			}
			_, _ = w.Write([]byte("{}"))
		}),
	}
	go func() { _ = s.ServeTLS(l, "", "") }() // until the process ends
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}
