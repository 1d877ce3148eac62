package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"mk8s.io/mk/core/joinstring"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/tests/machine"
)

// joining measures what a node that serves joins does: inviting from nothing,
// and its agent under several joiners at once.
func (n *benchNode) joining(ctx context.Context) ([]row, error) {
	n.b.say("mk add-node")
	values, err := inTurns(n.b.times(11, 3), func() (float64, error) {
		c, err := spend(n.Command(ctx, "mk", "add-node"))
		return inMS(c.cpu), err
	})
	if err != nil {
		return nil, err
	}
	rows := []row{{what: "mk add-node, processor, plugins included", ours: ms(median(values[0])), peer: "-", value: median(values[0]), unit: "ms", aim: 50, bound: 500}}
	invitation, err := n.invitation(ctx)
	if err != nil {
		return rows, err
	}
	sizes, rounds := []int{1, 4, 64}, []int{1, 4, 1, 64, 1} // one alone is done in a moment
	if n.b.smoke {
		sizes, rounds = sizes[:2], rounds[:3]
	}
	all := map[int]load{}
	for i, clients := range rounds {
		n.b.say("%d joiners at once", clients)
		got, err := n.joinAtOnce(ctx, invitation, i+1, clients, n.b.times(max(10, 40/clients), max(2, 8/clients)))
		if err != nil {
			return rows, err
		}
		all[clients] = all[clients].and(got)
	}
	for _, clients := range sizes {
		got, of := all[clients], fmt.Sprintf(", %d at once", clients)
		rows = append(rows,
			row{what: "requests to join" + of, ours: fmt.Sprintf("%.3g a second, median %s", float64(len(got.begins))/got.seconds, ms(median(got.begins))), peer: "-", value: percentile(got.begins, 99), unit: "ms at p99", told: true},
			row{what: "certificates for a joiner" + of, ours: fmt.Sprintf("p99 %s, of %d failed %d", ms(percentile(got.signs, 99)), len(got.signs)+got.failed, got.failed), peer: got.beside(),
				value: median(got.signs), unit: "ms", aim: 2, told: clients != 1, bound: 100})
		if got.failed > 0 {
			return rows, fmt.Errorf("%d of the joiners' certificates were not signed: %w", got.failed, got.last)
		}
	}
	worker := operation.NodeProfiles(node.Worker)
	for group, first := range []struct {
		what     string
		profiles []string
	}{{"certificates for a joiner, the first", worker[:1]}, {fmt.Sprintf("certificates for a joiner, its %d at once", len(worker)), worker}} {
		took, err := n.firstCertificates(ctx, invitation, 10+group, n.b.times(20, 3), first.profiles)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{what: first.what, ours: ms(took), peer: "-", value: took, unit: "ms", told: true})
	}
	return rows, nil
}

// invitation lets in as many workers as ask.
func (n *benchNode) invitation(ctx context.Context) (joinstring.Invitation, error) {
	c, err := spend(n.Command(ctx, "mk", "add-node", "--worker", "--token-ttl", "3600", "-o", "json"))
	if err != nil {
		return joinstring.Invitation{}, err
	}
	var answer struct{ URLs []string }
	if err := json.Unmarshal([]byte(c.out), &answer); err != nil || len(answer.URLs) == 0 {
		return joinstring.Invitation{}, fmt.Errorf("mk add-node printed %q (%w)", c.out, err)
	}
	return joinstring.Parse(answer.URLs[0])
}

// firstCertificates is how many milliseconds joiners wait for the first
// certificates that they ask for, one of each profile.
func (n *benchNode) firstCertificates(ctx context.Context, i joinstring.Invitation, group, joiners int, profiles []string) (float64, error) {
	var took []float64
	for k := range joiners {
		j, err := n.newJoiner(i, group, k)
		if err != nil {
			return 0, err
		}
		defer j.Client.Close()
		if err := errors.Join(j.begin(ctx), j.prepare(1, profiles...)); err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := j.sign(ctx); err != nil {
			return 0, err
		}
		took = append(took, inMS(time.Since(begun)))
		if err := j.release(ctx); err != nil {
			return 0, err
		}
	}
	return median(took), nil
}

// load is what came of several joiners at once.
type load struct {
	begins, signs []float64 // milliseconds
	bare          []float64 // a bare server's certificates, in turns with signs of one alone
	seconds       float64   // of all begins
	failed        int
	last          error
}

func (l load) and(more load) load {
	return load{slices.Concat(l.begins, more.begins), slices.Concat(l.signs, more.signs), slices.Concat(l.bare, more.bare),
		l.seconds + more.seconds, l.failed + more.failed, errors.Join(l.last, more.last)}
}

// beside says what a bare server takes.
func (l load) beside() string {
	if len(l.bare) == 0 {
		return "-"
	}
	return ms(median(l.bare)) + ", a bare server that signs"
}

// joinAtOnce has clients ask to join and let go again, each so many times;
// then each joins once and asks for a certificate as often.
func (n *benchNode) joinAtOnce(ctx context.Context, i joinstring.Invitation, group, clients, times int) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	all := make([]*joiner, clients)
	for k := range all {
		j, err := n.newJoiner(i, group, k)
		if err != nil {
			return load{}, err
		}
		defer j.Client.Close()
		all[k] = j
	}
	// Warm: the plugins run, each connection is there.
	if _, _, err := together(all, 1, func(j *joiner) error { return errors.Join(j.begin(ctx), j.release(ctx)) }); err != nil {
		return load{}, err
	}
	var out load
	begun := time.Now()
	begins, _, err := together(all, times, func(j *joiner) error { return j.begin(ctx) }, func(j *joiner) error { return j.release(ctx) })
	if err != nil {
		return load{}, err
	}
	out.begins, out.seconds = begins, time.Since(begun).Seconds()
	if _, _, err := together(all, 1, func(j *joiner) error { return j.begin(ctx) }); err != nil {
		return load{}, err
	}
	for _, j := range all {
		if err := j.prepare(times, pki.Kubelet); err != nil {
			return load{}, err
		}
	}
	var beside []func(*joiner) error
	if clients == 1 {
		s, err := newSigner()
		if err != nil {
			return load{}, err
		}
		defer s.Close()
		c := s.client()
		defer c.Close()
		beside = append(beside, func(j *joiner) error {
			took, err := certify(ctx, c, j.last)
			out.bare = append(out.bare, took)
			return err
		})
	}
	out.signs, out.failed, out.last = together(all, times, func(j *joiner) error { return j.sign(ctx) }, beside...)
	_, _, err = together(all, 1, func(j *joiner) error { return j.release(ctx) })
	return out, err
}

// together has all do something at once, so many times each, and something
// else after it that is not measured. It answers what each time took, of
// those that worked, how many did not, and the last error.
func together(all []*joiner, times int, do func(*joiner) error, after ...func(*joiner) error) (took []float64, failed int, last error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, j := range all {
		wg.Go(func() {
			for range times {
				begun := time.Now()
				err := do(j)
				d := inMS(time.Since(begun))
				mu.Lock()
				if err == nil {
					took = append(took, d)
				} else {
					failed, last = failed+1, err
				}
				mu.Unlock()
				for _, a := range after {
					if err := a(j); err != nil {
						mu.Lock()
						last = err
						mu.Unlock()
					}
				}
			}
		})
	}
	wg.Wait()
	return took, failed, last
}

// joiner is a worker that would join. Each has an address of its own, as real
// ones have: an agent bounds how often one may ask.
type joiner struct {
	*machine.Joiner

	name  string // of all its joins
	joins int
	asks  [][]peer.SignEntry // to be certified
	last  peer.Sign
}

func (n *benchNode) newJoiner(i joinstring.Invitation, group, number int) (*joiner, error) {
	name, address := fmt.Sprintf("joiner-%d-%d", group, number), fmt.Sprintf("10.99.%d.%d", group, number+1)
	from := &net.TCPAddr{IP: net.IPv4(127, 9, byte(group), byte(number+1))}
	j, err := machine.NewJoiner(i, name, address, peer.Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.dialFrom(ctx, from, network, address)
	}})
	return &joiner{Joiner: j, name: name}, err
}

// begin asks to join. Each join has a name of its own: one that was taken back
// is refused its name, until it is let in again.
func (j *joiner) begin(ctx context.Context) error {
	j.joins++
	j.Request.Operation, j.Request.Now, j.Request.Name = node.NewID(), time.Now(), fmt.Sprintf("%s-%d", j.name, j.joins)
	var begun peer.Begun
	if err := j.Client.Call(ctx, peer.BeginPath, j.Request, &begun); err != nil {
		return err
	}
	if begun.Reservation == "" {
		return fmt.Errorf("%s was not let in", j.Request.Name)
	}
	return nil
}

func (j *joiner) release(ctx context.Context) error {
	return j.Client.Call(ctx, peer.ReleasePath, peer.Ref{Operation: j.Request.Operation}, nil)
}

// prepare makes requests for certificates of profiles. No two are the same: the
// same one is answered with the same certificate.
func (j *joiner) prepare(times int, profiles ...string) error {
	names, err := operation.NormalNames([]string{j.Request.Name}, append([]string{"127.0.0.1"}, j.Request.Addresses...))
	if err != nil {
		return err
	}
	for range times {
		var ask []peer.SignEntry
		for _, name := range profiles {
			p, err := pki.Find(name)
			if err != nil {
				return err
			}
			r := pki.Request{Profile: p, Node: j.Request.Name}
			if p.Names == pki.NodeNames {
				r.Names = names
			}
			csr, err := pki.NewCSR(j.Key, r)
			if err != nil {
				return err
			}
			ask = append(ask, peer.SignEntry{Profile: name, CSR: csr})
		}
		j.asks = append(j.asks, ask)
	}
	return nil
}

// sign has what the next request asks for certified.
func (j *joiner) sign(ctx context.Context) error {
	j.last = peer.Sign{Operation: j.Request.Operation, Node: j.Request.Name, Requests: j.asks[0]}
	j.asks = j.asks[1:]
	_, err := certify(ctx, j.Client, j.last)
	return err
}

// percentile is the value that so many of a hundred do not exceed.
func percentile(values []float64, of int) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, len(s)*of/100)]
}
