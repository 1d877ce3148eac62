package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/snapshot"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// RestoreOptions say what is restored, and as whom. The key is no part of what
// the journal keeps.
type RestoreOptions struct {
	File    string        `json:"file"`
	Name    string        `json:"name,omitempty"`    // empty: the node's that the snapshot is of
	Address string        `json:"address,omitempty"` // empty: that of the default route
	NoBoot  bool          `json:"noBoot,omitempty"`
	Key     *snapshot.Key `json:"-"`
}

// unpacked holds a snapshot's files while it is restored.
const unpacked = "var/restore"

// ClusterAlive is the reason of a refusal: the snapshot's cluster still runs.
const ClusterAlive plugin.Reason = "CLUSTER_ALIVE"

// Restore brings back what a snapshot holds: on an empty machine the whole
// node, on the only control-plane node of a cluster its datastore. It refuses
// while another control-plane node of then answers. One that was interrupted is
// gone on with.
func (n Node) Restore(ctx context.Context, o RestoreOptions) error {
	open, err := n.Journal.Open()
	if err != nil {
		return err
	}
	if open != nil && open.Verb == operation.RestoreVerb {
		var was RestoreOptions
		if err := json.Unmarshal(open.Params, &was); err != nil {
			return fmt.Errorf("read change %d: %w", open.Number, err)
		}
		if was.File != o.File {
			return &operation.OpenError{Record: open}
		}
	}
	empty := n.Record == nil || n.Record.ClusterID == ""
	if !empty && open == nil {
		if err := errors.Join(n.voter("mk datastore snapshot restore"), n.Outdated()); err != nil {
			return err
		}
	}
	r, err := n.Journal.Begin(ctx, operation.RestoreVerb, o)
	if err != nil {
		return err
	}
	if !r.Resumed && (open != nil && open.Verb == operation.RestoreVerb || empty && n.Record != nil && n.Record.ClusterID != "") {
		return meanwhile(r)
	}
	if empty || slices.ContainsFunc(r.Record.Steps, func(s operation.StepRecord) bool { return s.Name == takeOver }) {
		return r.End(ctx, n.restoreAll(ctx, r, o))
	}
	return r.End(ctx, n.restoreData(ctx, r, o))
}

// meanwhile ends what waited for the lock, and then found another node than the
// one that it was to change.
func meanwhile(r *operation.Run) error {
	return errors.Join(&plugin.Error{Reason: plugin.NotPossible, Message: "another command has changed this node meanwhile", Next: "mk status"},
		r.GiveUp("another command was quicker"))
}

// restoreData puts a snapshot's datastore in the place of this node's.
func (n Node) restoreData(ctx context.Context, r *operation.Run, o RestoreOptions) error {
	if err := r.Step(ctx, readAll, func(ctx context.Context) error { return n.take(ctx, o) }); err != nil {
		return err
	}
	m, err := n.taken()
	if err != nil {
		return err
	}
	if m.Cluster != n.Record.ClusterID {
		return plugin.Errorf(plugin.NotPossible, "the snapshot is of another cluster: restore it on an empty machine (mk reset --all)")
	}
	err = n.remake(ctx, r, made{why: "restore", source: func(_ context.Context, to, _ string) error {
		return n.Root.Rename(unpacked+"/"+snapshot.Datastore, to)
	}})
	if err != nil {
		return err
	}
	return n.Root.RemoveAll(unpacked)
}

const (
	readAll  = "read the snapshot"
	takeOver = "take over who the node was"
)

// restoreAll makes this node from a snapshot.
func (n Node) restoreAll(ctx context.Context, r *operation.Run, o RestoreOptions) error {
	fresh := data + ".new"
	return n.finish(ctx, r, unpacked, []step{
		{readAll, func(ctx context.Context) error { return n.take(ctx, o) }},
		{takeOver, func(ctx context.Context) error { return n.takeOver(ctx, o) }},
		{"install the plugins", func(ctx context.Context) error { return n.takePlugins(ctx, r) }},
		{"ask the plugins what they offer", n.DescribeActive},
		{"write the node's files", func(ctx context.Context) error {
			// What the snapshot lacks is made; the rest is known then.
			if err := n.Bootstrap(ctx, r); err != nil {
				return err
			}
			return n.Configure(ctx, r)
		}},
		{"make a datastore with a new identity", func(ctx context.Context) error {
			id, err := n.newIdentity(r.Record.ID)
			if err == nil {
				err = n.Root.RemoveAll(fresh)
			}
			if err != nil {
				return err
			}
			if err := n.tool().Make(ctx, n.Root.Path(unpacked, snapshot.Datastore), n.Root.Path(fresh), id); err != nil {
				return err
			}
			// There is the folder that the node's files came with, empty.
			return errors.Join(n.Root.RemoveAll(data), n.Root.Rename(fresh, data))
		}},
		{"become the cluster's", func(context.Context) error {
			m, err := n.taken()
			if err != nil {
				return err
			}
			n.Record.ClusterID = m.Cluster
			return errors.Join(n.count(r.Record.ID), n.Root.SaveRecord(n.Record))
		}},
	}, operation.StartOptions{NoBoot: o.NoBoot})
}

// take reads the whole snapshot, starts its datastore to see that it can be,
// and asks whether its cluster still runs.
func (n Node) take(ctx context.Context, o RestoreOptions) (err error) {
	f, err := n.open(o.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := errors.Join(n.Root.RemoveAll(unpacked), n.Root.MkdirAll(unpacked, privateFolder())); err != nil {
		return err
	}
	m, err := n.unpack(f, o.Key, unpacked, func(string) bool { return true })
	if err != nil {
		return err
	}
	for _, must := range []string{snapshot.Datastore, "node.json", accountKey} {
		if _, err := n.Root.Lstat(unpacked + "/" + must); err != nil {
			return fmt.Errorf("the snapshot lacks %s: %w", must, err)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("keep what the snapshot holds: %w", err)
	}
	if err := n.Root.WriteFile(unpacked+"/manifest.json", text, private()); err != nil {
		return err
	}
	n.detail("start its datastore, to see that it can be")
	work, done, err := n.scratch()
	if err != nil {
		return err
	}
	_, err = n.tool().Verify(ctx, n.Root.Path(unpacked, snapshot.Datastore), n.Root.Path(work))
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	return n.alone(ctx, m)
}

// alone refuses while another control-plane node of the snapshot's cluster
// answers: it and what is restored would be two clusters of one name.
func (n Node) alone(ctx context.Context, m *snapshot.Manifest) error {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("look at this machine's addresses: %w", err)
	}
	rec, err := n.record()
	if err != nil {
		return err
	}
	for _, member := range m.Members {
		here := slices.ContainsFunc(own, func(a net.Addr) bool {
			ip, _, err := net.ParseCIDR(a.String())
			return err == nil && ip.Equal(net.ParseIP(member.Host))
		})
		if here {
			continue
		}
		if (Node{&operation.Node{Record: rec}}).answers(ctx, member.Host) {
			return &plugin.Error{Reason: ClusterAlive, Message: fmt.Sprintf("%s (%s) of the snapshot's cluster answers: a cluster is not restored beside itself", member.Name, member.Host),
				Next: "take it off the network; or remove it first: mk remove-node " + member.Name}
		}
	}
	return nil
}

// taken is what the snapshot that was read says of itself.
func (n Node) taken() (*snapshot.Manifest, error) {
	text, err := n.Root.ReadFile(unpacked + "/manifest.json")
	if err != nil {
		return nil, err
	}
	m := &snapshot.Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Root.Path(unpacked, "manifest.json"), err)
	}
	return m, nil
}

// record is the node's that the snapshot is of.
func (n Node) record() (*node.Record, error) {
	text, err := n.Root.ReadFile(unpacked + "/node.json")
	if err != nil {
		return nil, err
	}
	rec, err := node.ParseRecord(text)
	if err != nil {
		return nil, fmt.Errorf("the snapshot's node.json: %w", err)
	}
	return rec, nil
}

// takeOver writes who the node is, and what people had decided of it.
func (n Node) takeOver(ctx context.Context, o RestoreOptions) error {
	m, err := n.taken()
	if err != nil {
		return err
	}
	rec, err := n.record()
	if err != nil {
		return err
	}
	was := *rec
	rec.NoVote = false // it holds the only member there is
	rec.ClusterID, rec.Stopped, rec.StoppedAt = "", false, time.Time{}
	n.SetRecord(rec)
	if err := n.Identify(ctx, operation.StartOptions{Name: o.Name, Address: o.Address}); err != nil {
		return err
	}
	for name, perm := range map[string]node.Perm{
		"settings.yaml": n.Root.Public(), identityFile: n.Root.Public(), accountKey: n.Root.Secret(),
		"certs/csr.conf.template": n.Root.Secret(), "credentials/known_tokens.csv": n.Root.Secret(),
	} {
		if err := n.copyBack(name, perm); err != nil {
			return err
		}
	}
	files, err := n.below(unpacked + "/args")
	if err != nil {
		return err
	}
	for _, f := range files {
		name := strings.TrimPrefix(f, unpacked+"/")
		if name == "args/etcd" {
			continue // of the old cluster; the strategy writes it
		}
		if err := n.copyArgs(name, m.Root, was); err != nil {
			return err
		}
	}
	return nil
}

func (n Node) copyBack(name string, p node.Perm) error {
	content, err := n.Root.ReadFile(unpacked + "/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.Root.WriteFile(name, content, p)
}

// copyArgs takes an args file over, with this node's folder and address where
// the old one's stood, and its own datastore where that had none.
func (n Node) copyArgs(name, oldRoot string, was node.Record) error {
	text, err := n.Root.ReadFile(unpacked + "/" + name)
	if err != nil {
		return err
	}
	out := string(text)
	if oldRoot != "" && oldRoot != n.Root.Dir() {
		out = strings.ReplaceAll(out, oldRoot+"/", n.Root.Dir()+"/")
	}
	if was.Address != n.Record.Address {
		out = replaceAddress(out, was.Address, n.Record.Address)
	}
	service := strings.TrimPrefix(name, "args/")
	if slices.Contains(args.Services(), service) {
		file, err := args.Parse([]byte(out))
		if err == nil && was.NoVote && service == "kube-apiserver" {
			err = file.Set("etcd-servers", defaults.OwnDatastore)
			out = string(file.Bytes())
		}
		if err != nil {
			return fmt.Errorf("the snapshot's %s: %w", name, err)
		}
	}
	if err := n.Root.MkdirAll(parent(name), n.Root.SecretFolder()); err != nil {
		return err
	}
	return n.Root.WriteFile(name, []byte(out), n.Root.Secret())
}

func parent(name string) string { return name[:max(0, strings.LastIndexByte(name, '/'))] }

// replaceAddress replaces an address where it stands as a whole.
func replaceAddress(text, old, now string) string {
	if old == "" {
		return text
	}
	part := func(c byte) bool { return c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
	var b strings.Builder
	for {
		i := strings.Index(text, old)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(old)
		whole := (i == 0 || !part(text[i-1])) && (end == len(text) || !part(text[end]))
		b.WriteString(text[:i])
		if whole {
			b.WriteString(now)
		} else {
			b.WriteString(old)
		}
		text = text[end:]
	}
}

// takePlugins installs what comes with mk, and the plugins of others that the
// snapshot holds; makes active what was; and gives them back their settings
// and, where they are in it, their states.
func (n Node) takePlugins(ctx context.Context, r *operation.Run) error {
	if err := n.InstallShipped(ctx); err != nil {
		return err
	}
	text, err := n.Root.ReadFile(unpacked + "/" + lockList)
	if err != nil {
		return err
	}
	was, err := lockfile.Parse(text, "the snapshot's "+lockList)
	if err != nil {
		return err
	}
	var cs changeset.ChangeSet
	for _, a := range was.Active {
		digest, err := n.provide(ctx, a)
		if err != nil {
			return err
		}
		cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.ActivatePlugin{Kind: a.Kind, Name: a.Name, Digest: digest, Authority: a.Authority}})
	}
	if err := r.Apply(ctx, cs); err != nil {
		return err
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	for _, a := range lock.Active {
		if err := n.copyBack("plugins/"+pluginsdir.SettingsName(a.Kind, a.Name), private()); err != nil {
			return err
		}
		uid, ok := lock.User(a.Kind, a.Name)
		if !ok {
			continue
		}
		if err := n.copyState(a.Kind, a.Name, uid); err != nil {
			return err
		}
	}
	return nil
}

// provide is the digest of an installed plugin that can be what was active: the
// same, or the one of its name that comes with mk.
func (n Node) provide(ctx context.Context, a lockfile.Active) (string, error) {
	folder := unpacked + "/plugins/store/" + storeName(a.Digest)
	if _, err := n.Root.Lstat(folder); err == nil {
		_, err := n.Dir.Install(ctx, n.Root.Path(folder), pluginsdir.Options{
			Host: operation.HostContracts(n.Version), By: n.User, At: n.Now().UTC(), Trial: n.Trial(),
			Consent: func(*pluginsdir.Proposal) error { return nil }, // given in the cluster
		})
		if err != nil {
			return "", err
		}
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return "", err
	}
	if _, ok := lock.Find(a.Digest); ok {
		return a.Digest, nil
	}
	for _, i := range lock.Installed {
		if i.Kind == a.Kind && i.Name == a.Name {
			return i.Digest, nil
		}
	}
	return "", plugin.Errorf(plugin.NotPossible, "the snapshot's plugin %s/%s %s is neither in it nor with this mk", a.Kind, a.Name, a.Version)
}

// copyState gives a plugin's user its state back.
func (n Node) copyState(kind, name string, uid int) error {
	base := stateFolder + "/" + kind + "/" + name
	files, err := n.below(unpacked + "/" + base)
	if err != nil || len(files) == 0 {
		return err
	}
	if err := n.Root.MkdirAll(stateFolder+"/"+kind, node.Perm{Mode: 0o711, UID: -1, GID: -1}); err != nil {
		return err
	}
	drawer := node.Perm{Mode: 0o700, UID: uid, GID: uid}
	if kind == plugin.KindTokens {
		drawer = n.Root.Drawer(uid)
	}
	if err := n.Root.Mkdir(base, drawer); err != nil {
		return err
	}
	for _, f := range files {
		target := strings.TrimPrefix(f, unpacked+"/")
		if dir := parent(target); dir != base {
			if err := n.Root.MkdirAll(dir, node.Perm{Mode: 0o700, UID: uid, GID: uid}); err != nil {
				return err
			}
		}
		content, err := n.Root.ReadFile(f)
		if err != nil {
			return err
		}
		if err := n.Root.WriteFile(target, content, node.Perm{Mode: 0o600, UID: uid, GID: uid}); err != nil {
			return err
		}
	}
	return nil
}

func storeName(digest string) string { return strings.ReplaceAll(digest, ":", "-") }
