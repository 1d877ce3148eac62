package operation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pluginhost"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// PluginSet starts the active plugins of a node when they are asked for, each
// once, and ends them at Close. It implements Plugins.
type PluginSet struct {
	Root      *node.Root
	Dir       *pluginsdir.Dir
	ClusterID func() string
	Log       hclog.Logger
	Answer    func(pluginhost.Spec, *pluginhost.Questions) host.Host // nil for none

	mu      sync.Mutex
	host    *pluginhost.Host
	running map[string]*starting // by digest
}

var _ Plugins = (*PluginSet)(nil)

// starting is a plugin on its way: who asks for it second waits for the first.
type starting struct {
	done   chan struct{}
	plugin *pluginhost.Plugin
	err    error
}

// ErrNoPlugin says that nothing is active in a place.
var ErrNoPlugin = errors.New("no plugin is active")

// Certs is the plugin that is active for an authority.
func (s *PluginSet) Certs(ctx context.Context, authority string) (certs.Plugin, plugin.Identity, error) {
	p, id, err := s.active(ctx, plugin.KindCerts, authority, "")
	if err != nil {
		return nil, id, err
	}
	return explainedCerts{p.Certs(), p}, id, nil
}

// Tokens is the active tokens plugin.
func (s *PluginSet) Tokens(ctx context.Context) (tokens.Plugin, plugin.Identity, error) {
	p, id, err := s.active(ctx, plugin.KindTokens, "", "")
	if err != nil {
		return nil, id, err
	}
	return p.Tokens(), id, nil
}

// Clustering is the active clustering plugin.
func (s *PluginSet) Clustering(ctx context.Context) (clustering.Plugin, plugin.Identity, error) {
	p, id, err := s.active(ctx, plugin.KindClustering, "", "")
	if err != nil {
		return nil, id, err
	}
	return p.Clustering(), id, nil
}

// Addons is an active addons plugin.
func (s *PluginSet) Addons(ctx context.Context, name string) (addons.Plugin, plugin.Identity, error) {
	p, id, err := s.active(ctx, plugin.KindAddons, "", name)
	if err != nil {
		return nil, id, err
	}
	return p.Addons(), id, nil
}

// Exporter is the state of an active plugin, by kind/name.
func (s *PluginSet) Exporter(ctx context.Context, name string) (plugin.Exporter, error) {
	p, err := s.named(ctx, name)
	if err != nil {
		return nil, err
	}
	return p.Exporter(), nil
}

// Forget has an active plugin drop what belongs to the cluster.
func (s *PluginSet) Forget(ctx context.Context, name string) error {
	p, err := s.named(ctx, name)
	if err != nil {
		return err
	}
	return p.Plugin().Forget(ctx, plugin.Call{OperationID: "forget/" + s.ClusterID()})
}

// named is an active plugin by kind/name, for whatever it is active.
func (s *PluginSet) named(ctx context.Context, name string) (*pluginhost.Plugin, error) {
	lock, err := s.Dir.Lock()
	if err != nil {
		return nil, err
	}
	for _, a := range lock.Active {
		if entry, ok := lock.Find(a.Digest); ok && entry.Kind+"/"+entry.Name == name {
			return s.start(ctx, lock, entry)
		}
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNoPlugin)
}

// Described starts a plugin and asks what it is.
func (s *PluginSet) Described(ctx context.Context, lock *lockfile.Lock, entry lockfile.Installed) (*pluginsdir.Described, error) {
	p, err := s.start(ctx, lock, entry)
	if err != nil {
		return nil, err
	}
	return ask(ctx, p, entry.Kind)
}

func (s *PluginSet) active(ctx context.Context, kind, authority, name string) (*pluginhost.Plugin, plugin.Identity, error) {
	lock, err := s.Dir.Lock()
	if err != nil {
		return nil, plugin.Identity{}, err
	}
	for _, a := range lock.Active {
		if a.Kind != kind || a.Authority != authority || (name != "" && a.Name != name) {
			continue
		}
		entry, ok := lock.Find(a.Digest)
		if !ok {
			return nil, plugin.Identity{}, fmt.Errorf("%s %s is active but not installed", a.String(), a.Version)
		}
		p, err := s.start(ctx, lock, entry)
		return p, entry.Identity, err
	}
	what := kind
	if authority != "" {
		what += " for " + authority
	}
	return nil, plugin.Identity{}, fmt.Errorf("%s: %w", what, ErrNoPlugin)
}

// Prefetch starts the plugins of several kinds at once. Errors come back when
// they are asked for.
func (s *PluginSet) Prefetch(ctx context.Context, kinds ...string) {
	lock, err := s.Dir.Lock()
	if err != nil {
		return
	}
	for _, a := range lock.Active {
		if entry, ok := lock.Find(a.Digest); ok && slices.Contains(kinds, a.Kind) {
			go func() { _, _ = s.start(ctx, lock, entry) }()
		}
	}
}

// start starts an installed plugin once.
func (s *PluginSet) start(ctx context.Context, lock *lockfile.Lock, entry lockfile.Installed) (*pluginhost.Plugin, error) {
	s.mu.Lock()
	if s.running == nil {
		s.running = map[string]*starting{}
	}
	st, ok := s.running[entry.Digest]
	if ok && st.gone() {
		ok = false
	}
	if !ok {
		st = &starting{done: make(chan struct{})}
		s.running[entry.Digest] = st
	}
	h := s.pluginHost()
	s.mu.Unlock()
	if ok {
		select {
		case <-st.done:
			return st.plugin, st.err
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", entry.Identity, ctx.Err())
		}
	}
	st.plugin, st.err = s.launch(ctx, h, lock, entry)
	close(st.done)
	return st.plugin, st.err
}

func (st *starting) gone() bool {
	select {
	case <-st.done:
	default:
		return false
	}
	if st.err != nil {
		return true
	}
	select {
	case <-st.plugin.Gone():
		return true
	default:
		return false
	}
}

// pluginHost is made with the first plugin. Called with the lock held.
func (s *PluginSet) pluginHost() *pluginhost.Host {
	if s.host == nil {
		s.host = pluginhost.New(pluginhost.Options{
			RunDir: s.Root.RunDir("p"), Log: s.Log, Answer: s.Answer, Isolate: os.Geteuid() == 0,
		})
	}
	return s.host
}

func (s *PluginSet) launch(ctx context.Context, h *pluginhost.Host, lock *lockfile.Lock, entry lockfile.Installed) (*pluginhost.Plugin, error) {
	m, err := s.Dir.Manifest(entry)
	if err != nil {
		return nil, err
	}
	uid, _ := lock.User(entry.Kind, entry.Name)
	spec, err := s.spec(m, entry, uid)
	if err != nil {
		return nil, err
	}
	spec.Whole = func() error { return s.Dir.VerifyInstalled(ctx, entry) }
	return h.Start(ctx, spec)
}

// spec is how a plugin is started; its state folder is made if it is new.
func (s *PluginSet) spec(m *manifest.Manifest, entry lockfile.Installed, uid int) (pluginhost.Spec, error) {
	program, ok := entry.Program(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return pluginhost.Spec{}, fmt.Errorf("%s %s has no program for %s/%s", entry.Identity, entry.Version, runtime.GOOS, runtime.GOARCH)
	}
	settings, err := s.Dir.LoadSettings(m)
	if err != nil {
		return pluginhost.Spec{}, err
	}
	state, err := s.stateFolder(entry, uid)
	if err != nil {
		return pluginhost.Spec{}, err
	}
	dir := s.Dir.StorePath(entry.Digest)
	return pluginhost.Spec{
		Identity: entry.Identity, Dir: dir, Program: dir + "/" + program.Bin, Digest: digestForm(program.SHA256),
		UID: uid, Grants: entry.Grants, StartTimeout: m.Timeouts.Start.Value(0),
		Config: plugin.Configuration{Settings: settings, StateDir: state, ClusterID: s.ClusterID()},
	}, nil
}

// digestForm writes a digest as sha256:….
func digestForm(s string) string {
	if len(s) == 64 {
		return "sha256:" + s
	}
	return s
}

func (s *PluginSet) stateFolder(entry lockfile.Installed, uid int) (string, error) {
	kind := "plugins/state/" + entry.Kind
	if err := s.Root.MkdirAll(kind, node.Perm{Mode: 0o711, UID: -1, GID: -1}); err != nil {
		return "", err
	}
	if os.Geteuid() != 0 {
		uid = -1
	}
	perm := node.Perm{Mode: 0o700, UID: uid, GID: uid}
	if entry.Kind == plugin.KindTokens {
		perm = s.Root.Drawer(uid)
	}
	if err := s.Root.Mkdir(kind+"/"+entry.Name, perm); err != nil {
		return "", err
	}
	return s.Root.PluginState(entry.Kind, entry.Name), nil
}

// Close ends all plugins that were started.
func (s *PluginSet) Close() error {
	s.mu.Lock()
	h, running := s.host, slices.Collect(maps.Values(s.running))
	s.mu.Unlock()
	for _, st := range running {
		<-st.done
	}
	if h == nil {
		return nil
	}
	return h.Close()
}

// explainedCerts tells why a plugin went away while it was asked. Signing is
// where that matters: a node without certificates does not run.
type explainedCerts struct {
	certs.Plugin
	p *pluginhost.Plugin
}

// Sign asks the plugin and explains its end.
func (e explainedCerts) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	out, err := e.Plugin.Sign(ctx, r)
	return out, e.p.Explain("sign", err)
}

// Bootstrap asks the plugin and explains its end.
func (e explainedCerts) Bootstrap(ctx context.Context, r certs.BootstrapRequest) (certs.Authority, error) {
	out, err := e.Plugin.Bootstrap(ctx, r)
	return out, e.p.Explain("bootstrap "+r.Authority, err)
}

// Try starts a candidate once, isolated, and asks what it is: the last check
// of an install. It implements pluginsdir.Trial.
func (s *PluginSet) Try(ctx context.Context, c pluginsdir.Candidate) (*pluginsdir.Described, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	spec, err := s.spec(c.Manifest, c.Installed, c.User)
	if err != nil {
		return nil, err
	}
	spec.Dir, spec.Trial = c.Folder, true
	s.mu.Lock()
	h := s.pluginHost()
	s.mu.Unlock()
	p, err := h.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	said, err := ask(ctx, p, c.Installed.Kind)
	return said, errors.Join(err, p.Close())
}

// ask collects what reading commands want to know of a plugin later, when
// none is started for them.
func ask(ctx context.Context, p *pluginhost.Plugin, kind string) (*pluginsdir.Described, error) {
	d, err := p.Plugin().Describe(ctx)
	if err != nil {
		return nil, p.Explain("describe itself", err)
	}
	said := &pluginsdir.Described{Description: d}
	if kind != plugin.KindAddons {
		return said, nil
	}
	if said.Addons, err = p.Addons().List(ctx); err != nil {
		return nil, p.Explain("list its addons", err)
	}
	for _, a := range said.Addons {
		objects, err := p.Addons().Probe(ctx, a.Name)
		if err != nil {
			return nil, p.Explain("name the objects of "+a.Name, err)
		}
		if said.Probes == nil {
			said.Probes = map[string][]changeset.ObjectReference{}
		}
		said.Probes[a.Name] = objects
	}
	return said, nil
}
