package membership

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/pluginsdir"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/seal"
)

// connect makes the joiner's key, once, and prepares the way to the server.
func (j *join) connect() error {
	root := j.n.Root
	if err := root.Mkdir(joinFolder, node.Perm{Mode: 0o700, UID: -1, GID: -1}); err != nil {
		return err
	}
	private := node.Perm{Mode: 0o600, UID: -1, GID: -1}
	// A key may be there of a join that the cluster still holds a token for.
	if _, err := root.Lstat(joinCert); errors.Is(err, fs.ErrNotExist) {
		key, keyPEM, err := pki.NewKey(pki.ECDSAP256)
		if err != nil {
			return err
		}
		cert, err := pki.SelfSigned(key, "mk joiner", j.n.Now())
		if err != nil {
			return err
		}
		if err := errors.Join(root.WriteFile(joinKey, keyPEM, private), root.WriteFile(joinCert, cert, private)); err != nil {
			return err
		}
		j.free = true
	}
	pair, err := tls.LoadX509KeyPair(root.Path(joinCert), root.Path(joinKey))
	if err != nil {
		return fmt.Errorf("read this node's key for the join: %w", err)
	}
	if err := j.note(); err != nil {
		return err
	}
	data, err := root.ReadFile(joinBegun)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begun := err == nil
	j.client = peer.New(j.o.Server, peer.Options{Fingerprint: j.o.Fingerprint, Insecure: j.o.SkipVerify, Client: &pair,
		Patience: silenceLimit, Met: begun, Waiting: func(err error) { j.n.detail(err.Error()) }})
	if !begun {
		return nil
	}
	j.begun = &peer.Begun{}
	if err := json.Unmarshal(data, j.begun); err != nil {
		return fmt.Errorf("read what the cluster answered: %w", err)
	}
	return j.remember()
}

// peoples is what people may have made before the join: args files, plugins'
// settings and the list of plugins. It stays if the join is taken back.
func peoples() []string { return []string{"args", settingsFolder, pluginList} }

// note copies it, unless that was done.
func (j *join) note() error {
	root := j.n.Root
	for _, done := range []string{joinBefore, joinBack} {
		if _, err := root.Lstat(done); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := errors.Join(root.RemoveAll(joinCopies), root.Mkdir(joinCopies, node.Perm{Mode: 0o700, UID: -1, GID: -1}))
	for _, name := range peoples() {
		err = errors.Join(err, j.copyThere(name, path.Join(joinCopies, path.Base(name))))
	}
	if err != nil {
		return err
	}
	return root.Rename(joinCopies, joinBefore)
}

// copyThere copies what may not be there.
func (j *join) copyThere(name, to string) error {
	if _, err := j.n.Root.Lstat(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return j.n.Root.Copy(name, to)
}

// putBack has what people made be as it was, at no time without what they
// wrote. What is too much goes first: it may be what fills the disk.
func (j *join) putBack() error {
	kept := func(name string) string { return path.Join(joinBack, path.Base(name)) }
	errs := []error{j.n.prune("args", kept("args")), j.n.prune(settingsFolder, kept(settingsFolder))}
	if _, err := j.n.Root.Lstat(kept(pluginList)); errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, j.n.removeAllBut("plugins", path.Base(settingsFolder)))
	}
	for _, name := range peoples() {
		errs = append(errs, j.copyThere(kept(name), name))
	}
	return errors.Join(errs...)
}

// prune removes from a folder what is not in its copy.
func (n Node) prune(folder, kept string) error {
	entries, err := n.Root.ReadDir(kept)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var names []string
	var errs []error
	for _, e := range entries {
		names = append(names, e.Name())
		if e.IsDir() {
			errs = append(errs, n.prune(path.Join(folder, e.Name()), path.Join(kept, e.Name())))
		}
	}
	return errors.Join(append(errs, n.removeAllBut(folder, names...))...)
}

// plugins puts the cluster's plugins into the store, and makes them active with
// the cluster's settings: without them one may not even say what it offers.
func (j *join) plugins(ctx context.Context) error {
	n := j.n
	if err := n.InstallShipped(ctx); err != nil {
		return err
	}
	lock, err := n.Dir.Lock()
	if err != nil {
		return err
	}
	_, shared, err := j.secrets(ctx, map[string][]byte{})
	if err != nil {
		return err
	}
	settings, err := j.settings(shared.Settings)
	if err != nil {
		return err
	}
	cs := changeset.ChangeSet{Operations: settings}
	for _, p := range j.begun.Plugins {
		if _, ok := lock.Find(p.Digest); !ok {
			if err := j.fetch(ctx, p); err != nil {
				return err
			}
		}
		cs.Operations = append(cs.Operations, changeset.Operation{Action: &changeset.ActivatePlugin{
			Kind: p.Kind, Name: p.Name, Digest: p.Digest, Authority: p.Authority}})
	}
	if err := j.r.Apply(ctx, cs); err != nil {
		return err
	}
	return n.DescribeActive(ctx)
}

const settingsFolder = "plugins/settings"

// settings writes those of the cluster's plugins. What a person wrote on this
// machine before the join stays.
func (j *join) settings(of map[string][]byte) ([]changeset.Operation, error) {
	var out []changeset.Operation
	done := map[string]bool{} // one that is active for several authorities
	for _, p := range j.begun.Plugins {
		name := pluginsdir.SettingsName(p.Kind, p.Name)
		content, ok := of[p.Kind+"/"+p.Name]
		if !ok || done[name] {
			continue
		}
		if _, err := j.n.Root.Lstat(path.Join(joinBefore, path.Base(settingsFolder), path.Base(name))); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return nil, err
			}
			continue
		}
		done[name] = true
		out = append(out, changeset.Operation{Action: &changeset.WriteFile{Path: "plugins/" + name, Content: content, Mode: 0o600, Secret: true}})
	}
	return out, nil
}

// fetch gets a plugin that this node lacks from the server's store. What it
// may do was granted in the cluster.
func (j *join) fetch(ctx context.Context, p peer.Plugin) error {
	archive, err := j.client.Raw(ctx, peer.Request{Method: http.MethodGet, Path: peer.PluginPath + "/" + p.Digest,
		Headers: map[string]string{peer.OperationHeader: j.r.Record.ID}, Max: maxPlugin + maxPluginFiles*1024})
	if err != nil {
		return err
	}
	if archive.Status != http.StatusOK {
		return fmt.Errorf("the cluster does not give the plugin %s/%s %s: it answers %d", p.Kind, p.Name, p.Version, archive.Status)
	}
	return j.n.installArchive(ctx, archive.Body, p, pluginsdir.Options{Host: operation.HostContracts(j.n.Version), By: j.n.User, At: j.n.Now().UTC()})
}

// keys takes over what control-plane nodes share: each plugin opens what was
// sealed to its own key, the core the rest.
func (j *join) keys(ctx context.Context) error {
	n := j.n
	recipients, exporters := map[string][]byte{}, map[string]plugin.Exporter{}
	for _, p := range j.begun.Plugins {
		name := p.Kind + "/" + p.Name
		if _, ok := exporters[name]; ok || !n.exportable(p.Digest) {
			continue
		}
		e, err := n.Plugins.Exporter(ctx, name)
		if err != nil {
			return err
		}
		exporters[name] = e
		if recipients[name], err = e.PrepareImport(ctx, j.r.Call("prepare-import")); err != nil {
			return err
		}
	}
	sealed, shared, err := j.secrets(ctx, recipients)
	if err != nil {
		return err
	}
	binding := []byte(j.begun.Reservation)
	for name, e := range exporters {
		if err := e.Import(ctx, j.r.Call("import"), sealed[name], binding); err != nil {
			return fmt.Errorf("%s cannot take over the cluster's state: %w", name, err)
		}
	}
	if _, err := pki.ParseKey(shared.ServiceAccountKey); err != nil {
		return fmt.Errorf("the cluster's key of service accounts: %w", err)
	}
	return j.r.Apply(ctx, changeset.ChangeSet{Operations: []changeset.Operation{{
		Action: &changeset.WriteFile{Path: operation.ServiceAccountKey, Content: shared.ServiceAccountKey, Secret: true}}}})
}

// secrets asks for what control-plane nodes share: plugins' parts sealed to
// their keys, and the core's, opened.
func (j *join) secrets(ctx context.Context, recipients map[string][]byte) (map[string]plugin.Sealed, *peer.CoreSecrets, error) {
	private, recipient, err := j.sealKey()
	if err != nil {
		return nil, nil, err
	}
	recipients[peer.CoreRecipient] = recipient
	var got peer.Sealed
	if err := j.client.Call(ctx, peer.SecretsPath, peer.Secrets{Operation: j.r.Record.ID, Recipients: recipients}, &got); err != nil {
		return nil, nil, err
	}
	data, err := seal.Open(private, []byte(j.begun.Reservation), got.Sealed[peer.CoreRecipient].Data)
	if err != nil {
		return nil, nil, fmt.Errorf("open the cluster's keys: %w", err)
	}
	shared := &peer.CoreSecrets{}
	if err := json.Unmarshal(data, shared); err != nil {
		return nil, nil, fmt.Errorf("open the cluster's keys: %w", err)
	}
	return got.Sealed, shared, nil
}

// sealKey is the key that the core's secrets are sealed to, made once.
func (j *join) sealKey() (private, recipient []byte, err error) {
	private, err = j.n.Root.ReadFile(joinSealed)
	if err == nil {
		recipient, err = seal.Recipient(private)
		return private, recipient, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if private, recipient, err = seal.NewKey(); err != nil {
		return nil, nil, err
	}
	return private, recipient, j.n.Root.WriteFile(joinSealed, private, node.Perm{Mode: 0o600, UID: -1, GID: -1})
}

func (n Node) exportable(digest string) bool {
	said, err := n.Dir.LoadDescribed(digest)
	return err == nil && said != nil && said.Description.Exportable
}

// undo takes the join back on both sides. It is tried with a time of its own;
// when it was begun, a join goes no further, and what is left of it is undone.
func (j *join) undo(ctx context.Context) error {
	if j.client == nil {
		return nil // it was not begun
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	j.n.detail("take the join back")
	root := j.n.Root
	if !j.undoing() {
		if err := root.Rename(joinBefore, joinBack); err != nil {
			return err
		}
	}
	// A try that was killed may have been let in with this key, and not have
	// noted it.
	if j.begun != nil || j.client.Met() || !j.free {
		tell, cancel := context.WithTimeout(ctx, 30*time.Second)
		var released peer.Released
		err := j.client.Call(tell, peer.ReleasePath, peer.Ref{Operation: j.r.Record.ID}, &released)
		cancel()
		if j.free = err == nil && !released.Held; err != nil {
			// What is there ends by itself with its lease. Until then the token
			// is good for this key alone: it stays for the next try.
			j.n.detail(fmt.Sprintf("the cluster was not told: %v", err))
		}
	}
	if j.n.Record != nil {
		if err := errors.Join(j.n.StopServices(ctx), j.n.ClearMachine(ctx)); err != nil {
			return err
		}
	}
	errs := []error{j.n.removeAllBut(".", "var", "settings.yaml", "args", "plugins")}
	for _, name := range []string{joinSealed, operation.IdentityFile, "var/kubernetes", "var/certs", "var/lib", "plugins/state"} {
		errs = append(errs, root.RemoveAll(name))
	}
	return errors.Join(append(errs, j.putBack())...)
}

// undoing reports whether the join is being taken back.
func (j *join) undoing() bool {
	_, err := j.n.Root.Lstat(joinBack)
	return err == nil
}

// forget removes the files of a join that has ended, but for a key for which
// the node that served it may hold the token.
func (j *join) forget() error {
	if !j.free || j.over {
		return j.n.forgetJoin()
	}
	return j.n.Root.RemoveAll(joinFolder)
}

func (n Node) forgetJoin() error {
	return n.removeAllBut(joinFolder, path.Base(joinKey), path.Base(joinCert))
}
