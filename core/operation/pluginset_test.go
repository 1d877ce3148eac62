package operation

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// started are the plugins that a set has started.
func started(t *testing.T, s *PluginSet) []string {
	t.Helper()
	lock, err := s.Dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for digest := range s.running {
		entry, ok := lock.Find(digest)
		if !ok {
			t.Errorf("%s runs and is not installed", digest)
		}
		out = append(out, entry.Identity.String())
	}
	slices.Sort(out)
	return out
}

// TestPluginsStartWhenAsked: nothing is started before it is asked, each once
// however many ask, and several at once where it is known that all are needed.
func TestPluginsStartWhenAsked(t *testing.T) {
	t.Parallel()
	n, _ := realNode(t)
	s := &PluginSet{Root: n.Root, Dir: n.Dir, ClusterID: func() string { return "c" }, Log: hclog.NewNullLogger()}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var all sync.WaitGroup
	var processes sync.Map
	for range 8 {
		for _, a := range pki.Authorities() {
			all.Go(func() {
				p, _, err := s.Certs(t.Context(), string(a))
				if err == nil {
					processes.Store(p.(explainedCerts).p, true)
					err = p.Health(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	count := 0
	processes.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d processes answered", count)
	}
	if got := started(t, s); !slices.Equal(got, []string{"certs/local"}) {
		t.Errorf("for certificates, %v were started", got)
	}
	s.Prefetch(t.Context(), plugin.KindTokens, plugin.KindClustering)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); len(started(t, s)) < 3; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("only %v were started", started(t, s))
		}
	}
	if _, _, err := s.Clustering(t.Context()); err != nil {
		t.Error(err)
	}
}
