//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// killedUnderWriters kills everything on one control-plane node after the
// other while five writers use the API servers of the two that survive. What
// was acknowledged stays, in the order that everybody saw, and each node comes
// back by mk start.
func killedUnderWriters(t *testing.T, members []*machine) {
	h := newHistory(t, members)
	members[0].apply(probe)
	members[0].kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/probe", "--timeout=240s")
	h.start(t.Context(), 5)
	for victim, m := range members {
		h.without(victim)
		began := time.Now()
		killEverything(t, m)
		h.settled(8 * time.Second)
		m.run("mk", "start")
		nodesReady(t, m, 5)
		t.Logf("%s killed and Ready again after %s; the longest wait of a writer so far %s", m.Name, round(time.Since(began)), round(time.Duration(h.longest.Load())))
	}
	h.settled(time.Until(h.began.Add(time.Minute)))
	h.check(t, members)
	members[0].kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/probe", "--timeout=240s")
	t.Logf("a client in a pod, by the ClusterIP, a new connection each time: %s", members[0].kubectl("logs", "probe"))
	members[0].kubectl("delete", "pod", "probe", "--now")
}

const probe = `
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  nodeName: n5
  restartPolicy: Never
  containers: [{name: probe, image: "mk.test/tools:1.0.0", args: [probe, -for, 60s, "https://$(KUBERNETES_SERVICE_HOST)/version"]}]
`

// killEverything kills all processes of a machine: the daemon, the services,
// the shims and the pods.
func killEverything(t *testing.T, m *machine) {
	t.Helper()
	m.eventually(time.Minute, func() error { // a daemon may have started another one in between
		pids := map[int]bool{}
		out, err := exec.CommandContext(t.Context(), "ip", "netns", "pids", m.Machine.Name).Output()
		if err != nil {
			return err
		}
		for _, p := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(p); err == nil {
				pids[pid] = true
			}
		}
		for _, root := range []string{"/sys/fs/cgroup/*/mk/", "/sys/fs/cgroup/mk/"} {
			groups, _ := filepath.Glob(root + m.ID())
			for _, g := range groups {
				_ = filepath.WalkDir(g, func(p string, _ fs.DirEntry, _ error) error {
					if filepath.Base(p) != "cgroup.procs" {
						return nil
					}
					data, _ := os.ReadFile(p)
					for _, f := range strings.Fields(string(data)) {
						if pid, err := strconv.Atoi(f); err == nil {
							pids[pid] = true
						}
					}
					return nil
				})
			}
		}
		delete(pids, os.Getpid())
		for pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(pids) > 0 {
			return fmt.Errorf("%d processes were there", len(pids))
		}
		return nil
	})
}

// history is what five writers asked of the API, and what they were answered.
type history struct {
	clients []corev1client.ConfigMapInterface // one of each node
	began   time.Time
	victim  atomic.Int64 // the node that is not to be asked
	longest atomic.Int64 // nanoseconds that a writer waited for a success
	done    atomic.Int64 // successes
	stop    context.CancelFunc
	writers sync.WaitGroup

	mu  sync.Mutex
	ops []porcupine.Operation
}

// registers is how many values the writers write to.
const registers = 4

func register(i int) string { return fmt.Sprintf("register-%d", i) }

// input is one question to a register: a value to put, or nothing to read it.
type input struct {
	register int
	put      string
}

func newHistory(t *testing.T, members []*machine) *history {
	t.Helper()
	h := &history{}
	for _, m := range members {
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(m.Root, "credentials/client.config"))
		if err != nil {
			t.Fatal(err)
		}
		config.Host = "https://127.0.0.1:16443"
		// What a member passes on to a leader that dies is lost, and etcd says
		// so after 7 s only: who wants to wait less gives a try up before.
		config.QPS, config.Burst, config.Timeout = 1000, 1000, 2*time.Second
		config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return m.dial(ctx, network, address)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		h.clients = append(h.clients, client.CoreV1().ConfigMaps("default"))
	}
	for i := range registers {
		members[0].eventually(time.Minute, func() error { // a try ends after 2 s, and may have been successful
			_, err := h.clients[0].Create(t.Context(), value(i, ""), metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil
			}
			return err
		})
	}
	return h
}

func value(i int, v string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: register(i)}, Data: map[string]string{"value": v}}
}

// dial dials from inside the machine.
func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.Inside(func() (err error) {
		conn, err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// start has the writers begin.
func (h *history) start(ctx context.Context, writers int) {
	ctx, stop := context.WithCancel(ctx)
	h.began, h.stop = time.Now(), stop
	h.victim.Store(-1)
	for w := range writers {
		h.writers.Go(func() { h.write(ctx, w) })
	}
}

// without has the writers leave a node alone, from their next try on.
func (h *history) without(victim int) { h.victim.Store(int64(victim)) }

// settled waits that long, and until the writers have had a success since.
func (h *history) settled(atLeast time.Duration) {
	timer := time.NewTimer(max(0, atLeast))
	defer timer.Stop()
	<-timer.C
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for before, until := h.done.Load(), time.Now().Add(30*time.Second); h.done.Load() == before && time.Now().Before(until); {
		<-tick.C
	}
}

// write asks one question after the other, each until it succeeds.
func (h *history) write(ctx context.Context, writer int) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		for began, try := time.Now(), 0; ; try++ {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			in := input{register: n % registers}
			if n%3 != 0 {
				in.put = fmt.Sprintf("%d.%d.%d", writer, n, try)
			}
			if h.ask(ctx, writer, in, writer+try) {
				waited := int64(time.Since(began))
				for old := h.longest.Load(); waited > old && !h.longest.CompareAndSwap(old, waited); old = h.longest.Load() {
				}
				h.done.Add(1)
				break
			}
		}
	}
}

// ask asks one of the nodes that live. A put without an answer may take effect
// at any time from then on, or never.
func (h *history) ask(ctx context.Context, writer int, in input, choice int) bool {
	var alive []corev1client.ConfigMapInterface
	for i, c := range h.clients {
		if int64(i) != h.victim.Load() {
			alive = append(alive, c)
		}
	}
	client := alive[choice%len(alive)]
	op := porcupine.Operation{ClientId: writer, Input: in, Call: int64(time.Since(h.began))}
	var got *corev1.ConfigMap
	var err error
	if in.put == "" {
		got, err = client.Get(ctx, register(in.register), metav1.GetOptions{})
	} else {
		_, err = client.Update(ctx, value(in.register, in.put), metav1.UpdateOptions{})
	}
	op.Return = int64(time.Since(h.began))
	switch {
	case err != nil && in.put == "":
		return false // a read without an answer tells nothing
	case err != nil:
		op.Return = math.MaxInt64
	case in.put == "":
		op.Output = got.Data["value"]
	}
	h.mu.Lock()
	h.ops = append(h.ops, op)
	h.mu.Unlock()
	return err == nil
}

// check ends the writers, and wants one order that explains every answer; what
// every node answers in the end belongs to it.
func (h *history) check(t *testing.T, members []*machine) {
	t.Helper()
	h.victim.Store(-1)
	h.stop()
	h.writers.Wait()
	for i := range registers {
		for node := range h.clients {
			members[node].eventually(time.Minute, func() error {
				if !h.ask(t.Context(), 100, input{register: i}, node) {
					return errText("it does not answer in the end")
				}
				return nil
			})
		}
	}
	var unknown int
	for _, op := range h.ops {
		if op.Return == math.MaxInt64 {
			unknown++
		}
	}
	longest := time.Duration(h.longest.Load())
	t.Logf("%d questions answered in %s, %d without an answer; the longest wait %s (aim 3s)", len(h.ops)-unknown, round(time.Since(h.began)), unknown, round(longest))
	if longest > 10*time.Second {
		t.Errorf("a writer waited %s", longest)
	}
	if result := porcupine.CheckOperationsTimeout(registersModel(), h.ops, 2*time.Minute); result != porcupine.Ok {
		t.Errorf("no order explains the answers: %v", result)
	}
}

func registersModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
			parts := make([][]porcupine.Operation, registers)
			for _, op := range ops {
				r := op.Input.(input).register
				parts[r] = append(parts[r], op)
			}
			return parts
		},
		Init: func() any { return "" },
		Step: func(state, in, out any) (bool, any) {
			if put := in.(input).put; put != "" {
				return true, put
			}
			return out == state, state
		},
	}
}
