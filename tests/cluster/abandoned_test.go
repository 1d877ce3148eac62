//go:build cluster

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// abandoned kills a join in its middle, and nobody goes on with it: when its
// lease has ended, the node that served it takes it back by itself. The token
// is as good as before.
func (p *pair) abandoned() {
	p.t.Helper()
	words, k := p.words(), p.within(2)
	p.kill(k, words...)
	if p.sameObjects(p.away) == nil {
		p.t.Errorf("mk join, %s: nothing is to be taken back", k)
	}
	p.setClock("11m")
	p.server.eventually(3*time.Minute, func() error { return errors.Join(p.sameObjects(p.away), p.sameMembers([]string{"n1"})) })
	p.setClock("0s")
	forward := p.m.onlyForward()
	a := p.m.answer(words...)
	p.t.Logf("abandoned, %s, only forward %v: %s", k, forward, a)
	switch {
	case !forward && (a.code != 0 || !strings.Contains(a.errs, "it begins anew")):
		p.t.Fatal("it does not begin anew")
	case forward && (a.code == 0 || !strings.Contains(a.errs, "mk leave --force")):
		p.t.Fatal("it does not say what is next")
	case forward:
		p.m.run("mk", "leave", "--force", "--yes")
		p.whole(false, "mk join, abandoned and left, "+k.String())
		p.m.run("mk", words...)
	}
	p.joins++
	p.whole(true, "mk join, abandoned, "+k.String())
	p.m.run("mk", "leave")
	p.whole(false, "mk join, abandoned, "+k.String())
}

// within is a point so many thirds into a join.
func (p *pair) within(thirds int) killPoint {
	var own []killPoint
	for _, k := range p.join {
		if k.who == "mk" && !k.late {
			own = append(own, k)
		}
	}
	return own[len(own)*thirds/3]
}

// setClock starts the agent that serves anew, with a clock that is ahead.
func (p *pair) setClock(ahead string) {
	p.t.Helper()
	file := p.server.Root + ".clock"
	p.t.Cleanup(func() { _ = os.Remove(file) })
	if err := os.WriteFile(file, []byte(ahead), 0o600); err != nil {
		p.t.Fatal(err)
	}
	signal(p.t, p.server.daemon(), syscall.SIGKILL)
	p.server.run("mk", "start")
}

// byHand is an args file that a person made before a join.
const byHand = "# by hand\n--max-pods=55\n"

func (p *pair) writesArgument() {
	p.t.Helper()
	dir := filepath.Join(p.m.Root, "args")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "kubelet"), []byte(byHand), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// diesGivingUp kills mk within a join, and again when it has taken that join
// back and not said so yet: the same words begin it anew.
func (p *pair) diesGivingUp() {
	p.t.Helper()
	words, k := p.words(), p.within(1)
	p.writesArgument()
	p.kill(k, words...)
	for back, n := filepath.Join(p.m.Root, "var/join/back"), 1; ; n++ { // the first records may be of what was interrupted
		if err := p.m.killAt(p.t.Context(), fmt.Sprintf("before:%d", n), false, "leave"); err != nil {
			p.t.Fatal(err)
		}
		if _, err := os.Stat(back); err == nil {
			break
		}
	}
	if now, err := os.ReadFile(filepath.Join(p.m.Root, "args/kubelet")); err != nil || string(now) != byHand {
		p.t.Errorf("a join, %s, is given up by an mk that is killed: the args file from before it is %q (%v)", k, now, err)
	}
	if a := p.m.answer(words...); a.code != 0 || !strings.Contains(a.errs, "it begins anew") {
		p.t.Fatalf("it does not begin anew: %s", a)
	}
	p.joins++
	p.whole(true, "mk join, given up by an mk that is killed, "+k.String())
	p.m.run("mk", "leave")
	p.whole(false, "mk join, given up by an mk that is killed, "+k.String())
}

// atOnce has a second join and a leave wait for one that is under way: that one
// succeeds, and they do nothing to it.
func (p *pair) atOnce() {
	p.t.Helper()
	words := p.words()
	first := make(chan error, 1)
	go func() {
		_, err := p.m.try(3*time.Minute, "mk", words...)
		first <- err
	}()
	p.server.eventually(time.Minute, func() error {
		for _, o := range p.m.operations() {
			if strings.Contains(o, `"verb": "join"`) && strings.Contains(o, `"state": "open"`) {
				return nil
			}
		}
		return errors.New("no join is under way")
	})
	var late sync.WaitGroup
	for _, again := range [][]string{words, {"leave"}} {
		late.Go(func() {
			a := p.m.answer(again...)
			p.t.Logf("mk %s, while that join is under way: %s", again[0], a)
			if a.code == 0 || !strings.Contains(a.errs, "belongs to a cluster already") && !strings.Contains(a.errs, "that join has ended meanwhile") {
				p.t.Errorf("mk %s, while a join is under way: %s", again[0], a)
			}
		})
	}
	late.Wait()
	if err := <-first; err != nil {
		p.t.Error(err)
	}
	p.joins++
	p.whole(true, "a join beside others")
	p.m.run("mk", "leave")
	p.whole(false, "a join beside others")
}
