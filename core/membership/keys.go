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
	if err := j.note(); err != nil {
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
	}
	pair, err := tls.LoadX509KeyPair(root.Path(joinCert), root.Path(joinKey))
	if err != nil {
		return fmt.Errorf("read this node's key for the join: %w", err)
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

// keptAs is where the copy of it is.
func keptAs(name string) string { return path.Join(joinBefore, path.Base(name)) }

// note copies it. The copy has its name once it is whole, until the join ends.
func (j *join) note() error {
	root := j.n.Root
	if _, err := root.Lstat(joinBefore); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(root.RemoveAll(joinCopies), root.Mkdir(joinCopies, node.Perm{Mode: 0o700, UID: -1, GID: -1})); err != nil {
		return err
	}
	for _, name := range peoples() {
		if err := root.Copy(name, path.Join(joinCopies, path.Base(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return root.Rename(joinCopies, joinBefore)
}

// putBack has it be as it was, at no time without what people wrote. The
// plugins' state, in which the cluster's keys may be, goes.
func (j *join) putBack() error {
	root := j.n.Root
	errs := []error{root.RemoveAll("plugins/state")}
	for _, name := range peoples() {
		if err := root.Copy(keptAs(name), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if _, err := root.Lstat(keptAs(pluginList)); errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, j.n.removeAllBut("plugins", path.Base(settingsFolder)))
	}
	return errors.Join(append(errs, j.n.prune("args", keptAs("args")), j.n.prune(settingsFolder, keptAs(settingsFolder)))...)
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
		if _, err := j.n.Root.Lstat(path.Join(keptAs(settingsFolder), path.Base(name))); !errors.Is(err, fs.ErrNotExist) {
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

// undo takes the join back on both sides. It is tried with a time of its own.
func (j *join) undo(ctx context.Context) error {
	if j.client == nil {
		return nil // it was not begun
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	j.n.detail("take the join back")
	var errs []error
	untold := false
	if j.begun != nil || j.client.Met() {
		tell, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := j.client.Call(tell, peer.ReleasePath, peer.Ref{Operation: j.r.Record.ID}, nil)
		cancel()
		if err != nil {
			// What is there ends by itself with its lease. Until then the token
			// is good for this key alone: it stays for the next try.
			untold = true
			j.n.detail(fmt.Sprintf("the cluster was not told: %v", err))
		}
	}
	if j.n.Record != nil {
		errs = append(errs, j.n.StopServices(ctx), j.n.ClearMachine(ctx))
	}
	back := j.putBack()
	errs = append(errs, back, j.n.removeAllBut(".", "var", "settings.yaml", "args", "plugins"))
	gone := []string{joinBegun, joinSealed, operation.IdentityFile, "var/kubernetes", "var/certs", "var/lib"}
	if back == nil { // else what people made is there only
		errs = append(errs, j.n.Root.Rename(joinBefore, joinCopies))
		gone = append(gone, joinCopies)
		if !untold && !j.over { // else the node that served it may hold the token for this key
			gone = append(gone, joinFolder)
		}
	}
	for _, name := range gone {
		errs = append(errs, j.n.Root.RemoveAll(name))
	}
	return errors.Join(errs...)
}
