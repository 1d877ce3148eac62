package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// Plan is what a dry run found out: the first ChangeSet in full, and the names
// of what follows it. Nothing was changed for it.
type Plan struct {
	Changes []change.Line `json:"changes,omitempty"`
	Then    []string      `json:"then,omitempty"`
}

// ServiceNames resolves names and aliases of services.
func (n *Node) ServiceNames(names []string) ([]string, error) {
	return resolve(names, n.serviceNames())
}

// resolve makes names and aliases of services those that are known.
func resolve(names, known []string) ([]string, error) {
	var out []string
	for _, name := range names {
		s := service.Alias(name)
		if !slices.Contains(known, s) {
			return nil, &UnknownError{ServiceUnknown, "service", name, known}
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

// CheckProfiles reports a name that is none of this node's certificates.
func (n *Node) CheckProfiles(profiles []string) error {
	all := n.Profiles()
	for _, p := range profiles {
		if !slices.Contains(all, p) {
			return &UnknownError{CertificateUnknown, "certificate", p, all}
		}
	}
	return nil
}

// Profiles are all certificates of this node.
func (n *Node) Profiles() []string {
	if n.Record.Role == node.Worker {
		return NodeProfiles(node.Worker)
	}
	if n.Record.NoVote {
		return append(NodeProfiles(n.Record.Role), pki.DatastoreClient)
	}
	return append(NodeProfiles(n.Record.Role), pki.DatastoreMember, pki.DatastoreClient)
}

// Certificate is what is known of one of the node's certificates.
type Certificate struct {
	Profile  string       `json:"profile"`
	File     string       `json:"file"`
	NotAfter time.Time    `json:"notAfter"`
	RenewAt  time.Time    `json:"renewAt"`
	State    pki.State    `json:"state"`
	Reasons  []pki.Reason `json:"reasons,omitempty"`
	Text     string       `json:"text,omitempty"`

	IssuerKeyID string `json:"issuerKeyID,omitempty"`
}

// Certificates lists the node's certificates.
func (n *Node) Certificates() ([]Certificate, error) {
	var out []Certificate
	trust := n.trustOnce()
	for _, p := range n.Profiles() {
		c, err := n.certificate(p, trust)
		if err != nil {
			return nil, err
		}
		out = append(out, *c)
	}
	return out, nil
}

// Certificate describes one certificate.
func (n *Node) Certificate(profile string) (*Certificate, error) {
	return n.certificate(profile, n.trustOnDisk)
}

func (n *Node) certificate(profile string, trust trusting) (*Certificate, error) {
	p, err := pki.Find(profile)
	if err != nil {
		return nil, err
	}
	out := &Certificate{Profile: profile, File: n.Root.Path(p.CertFile())}
	data, err := n.Root.ReadFile(p.CertFile())
	if err != nil {
		out.Reasons, err = absent(err)
		return out, err
	}
	if out.Reasons, err = n.judge(p, data, trust); err != nil {
		return nil, err
	}
	cert, err := pki.ParseCertificate(data)
	if err != nil {
		return out, nil //nolint:nilerr // judge has said so
	}
	info := pki.Describe(cert)
	out.NotAfter, out.RenewAt, out.State, out.Text = cert.NotAfter, pki.RenewAt(cert), info.State(n.Now()), info.String()
	out.IssuerKeyID = info.IssuerKeyID
	return out, nil
}

// KnownAuthority is an authority, and who keeps its key.
type KnownAuthority struct {
	Name        string `json:"name"`
	Generation  uint32 `json:"generation"`
	Plugin      string `json:"plugin"`
	KeyLocation string `json:"keyLocation"`
}

// Authorities asks the certs plugins where their keys are.
func (n *Node) Authorities(ctx context.Context) ([]KnownAuthority, error) {
	var out []KnownAuthority
	for _, name := range certs.Names() {
		_, who, err := n.Plugins.Certs(ctx, name)
		if err != nil {
			return nil, err
		}
		a, err := n.Issuer.Authority(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, KnownAuthority{Name: name, Generation: a.Generation, Plugin: who.String(), KeyLocation: a.KeyLocation})
	}
	return out, nil
}

// WriteSettings replaces the settings file.
func (n *Node) WriteSettings(ctx context.Context, data []byte) error {
	r, err := n.Journal.Begin(ctx, "settings", changeset.DigestOf(data)) // they hold secrets
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, "write the settings", func(ctx context.Context) error {
		return r.Apply(ctx, changeset.ChangeSet{Operations: []changeset.Operation{{
			Action: &changeset.WriteFile{Path: "settings.yaml", Content: data, Secret: true}}}})
	}))
}

// record is the operation of a number that a person named.
func (n *Node) record(number int) (*Record, error) {
	rec, err := LoadRecord(n.Root, number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &UnknownError{Reason: ChangeUnknown, What: "change", Name: strconv.Itoa(number)}
	}
	return rec, err
}

// UndoOperation takes the newest finished operation back.
func (n *Node) UndoOperation(ctx context.Context, number int) error {
	rec, err := n.record(number)
	if err != nil {
		return err
	}
	if rec.State != Done || rec.Changes == 0 {
		return plugin.Errorf(plugin.NotPossible, "change %d is %s with %d ChangeSets: there is nothing to undo", number, rec.State, rec.Changes)
	}
	if rec.Verb == "start" {
		return plugin.Errorf(plugin.NotPossible, "change %d is the node's start: mk reset takes that back", number)
	}
	applied, err := n.Engine.Applied(number)
	if err != nil {
		return err
	}
	if len(applied) != 1 {
		return plugin.Errorf(plugin.NotPossible, "change %d has %d ChangeSets: what all but the last replaced is no longer kept", number, len(applied))
	}
	r, err := n.Journal.Begin(ctx, "undo", number)
	if err != nil {
		return err
	}
	return r.End(ctx, r.Step(ctx, "undo", func(ctx context.Context) error {
		if err := n.Engine.Undo(ctx, applied[0]); err != nil {
			return err
		}
		rec.State = Undone
		return saveRecord(n.Root, rec)
	}))
}

// AbortOperation gives an open operation up. What it did stays done; a
// ChangeSet that was being applied is brought to one of its two ends. A
// datastore that is half made anew is not given up: neither the old nor the new
// one may be what the node runs.
func (n *Node) AbortOperation(ctx context.Context, number int) error {
	return n.changeOpen(ctx, number, func(rec *Record) error {
		if rec.Verb == RecoverVerb || rec.Verb == RestoreVerb {
			return &plugin.Error{Reason: plugin.NotPossible, Message: fmt.Sprintf("change %d cannot be given up: the datastore may be half made anew", number),
				Next: "mk " + rec.Verb + " goes on where it stopped; the old data stay beside the new"}
		}
		if rec.Verb == "join" {
			return &plugin.Error{Reason: plugin.NotPossible, Message: fmt.Sprintf("change %d is a join: the cluster knows of it, too", number),
				Next: "mk leave takes it back; the same mk join goes on with it"}
		}
		rec.State, rec.Ended = Failed, n.Now().UTC()
		if rec.Error == "" {
			rec.Error = "given up by " + n.User
		}
		return nil
	})
}

// PauseOperation leaves an open operation alone, or goes on with it.
func (n *Node) PauseOperation(ctx context.Context, number int, pause bool) error {
	return n.changeOpen(ctx, number, func(rec *Record) error {
		rec.State = Open
		if pause {
			rec.State = Paused
		}
		return nil
	})
}

// changeOpen changes the record of an open operation under the lock.
func (n *Node) changeOpen(ctx context.Context, number int, change func(*Record) error) error {
	if _, err := n.record(number); err != nil {
		return err
	}
	release, err := n.Journal.hold(ctx)
	if err != nil {
		return err
	}
	rec, err := n.record(number)
	if err == nil && rec.State != Open && rec.State != Paused {
		err = plugin.Errorf(plugin.NotPossible, "change %d is %s", number, rec.State)
	}
	if err == nil {
		err = n.Engine.Recover(ctx)
	}
	if err == nil {
		err = change(rec)
	}
	if err == nil {
		err = saveRecord(n.Root, rec)
	}
	return errors.Join(err, release())
}
