package changeset

import "time"

// Builder builds a ChangeSet operation by operation. Every method that adds an
// operation answers an entry on which that operation is refined, and on which
// the next one is added:
//
//	changeset.Build().
//		WriteFile("credentials/x", content).Mode(0o600).Secret().Because("x needs it").
//		SetArgument("kubelet", "node-ip", address).
//		Restart("kubelite").
//		ChangeSet()
//
// What refines only some operations (Mode, Secret) comes before what refines
// all (Because, Expecting, OnEveryNode).
type Builder struct{ ops []*Operation }

// Build begins an empty ChangeSet.
func Build() *Builder { return &Builder{} }

// ChangeSet is what was built so far; the builder may be used on.
func (b *Builder) ChangeSet() ChangeSet {
	var c ChangeSet
	for _, o := range b.ops {
		c.Operations = append(c.Operations, *o)
	}
	return c
}

// Add adds any action.
func (b *Builder) Add(a Action) *Entry {
	o := &Operation{Scope: ScopeNode, Action: a}
	b.ops = append(b.ops, o)
	return &Entry{Builder: b, op: o}
}

// Entry refines one operation.
type Entry struct {
	*Builder
	op *Operation
}

// Because says why, in one line for people.
func (e *Entry) Because(why string) *Entry { e.op.Why = why; return e }

// Expecting names the digest that was seen, or Absent; if it does not hold,
// nothing is applied and the plugin is asked again.
func (e *Entry) Expecting(digest string) *Entry { e.op.Expects = digest; return e }

// OnEveryNode makes the operation one of what the cluster wants.
func (e *Entry) OnEveryNode() *Entry { e.op.Scope = ScopeCluster; return e }

// FileEntry refines a file that is written.
type FileEntry struct {
	*Entry
	file *WriteFile
}

// Mode sets permission bits.
func (e *FileEntry) Mode(mode uint32) *FileEntry { e.file.Mode = mode; return e }

// Secret hides the content, and keeps it from others.
func (e *FileEntry) Secret() *FileEntry { e.file.Secret = true; return e }

// WriteFile replaces a file as a whole.
func (b *Builder) WriteFile(path string, content []byte) *FileEntry {
	a := &WriteFile{Path: path, Content: content}
	return &FileEntry{Entry: b.Add(a), file: a}
}

// FolderEntry refines a folder that is made.
type FolderEntry struct {
	*Entry
	folder *MakeFolder
}

// Mode sets permission bits.
func (e *FolderEntry) Mode(mode uint32) *FolderEntry { e.folder.Mode = mode; return e }

// MakeFolder makes a folder and its parents.
func (b *Builder) MakeFolder(path string) *FolderEntry {
	a := &MakeFolder{Path: path}
	return &FolderEntry{Entry: b.Add(a), folder: a}
}

// MovePath renames a file or folder.
func (b *Builder) MovePath(from, to string) *Entry { return b.Add(&MovePath{From: from, To: to}) }

// RemovePath removes a file or folder.
func (b *Builder) RemovePath(path string) *Entry { return b.Add(&RemovePath{Path: path}) }

// ArgumentEntry refines an argument that is set.
type ArgumentEntry struct {
	*Entry
	argument *SetArgument
}

// Owner says who sets it; removing an owner's restores what the owner found.
func (e *ArgumentEntry) Owner(owner string) *ArgumentEntry { e.argument.Owner = owner; return e }

// Secret hides the value.
func (e *ArgumentEntry) Secret() *ArgumentEntry { e.argument.Secret = true; return e }

// SetArgument sets an option of a service.
func (b *Builder) SetArgument(service, option, value string) *ArgumentEntry {
	a := &SetArgument{Service: service, Option: option, Value: &value}
	return &ArgumentEntry{Entry: b.Add(a), argument: a}
}

// SetFlag sets an option that has no value.
func (b *Builder) SetFlag(service, option string) *ArgumentEntry {
	a := &SetArgument{Service: service, Option: option}
	return &ArgumentEntry{Entry: b.Add(a), argument: a}
}

// RemoveArgument removes an option; with an owner, what that owner had set.
func (b *Builder) RemoveArgument(service, option, owner string) *Entry {
	return b.Add(&RemoveArgument{Service: service, Option: option, Owner: owner})
}

// SetLock makes a marker lock.
func (b *Builder) SetLock(name string) *Entry { return b.Add(&SetLock{Name: name}) }

// ClearLock removes a marker lock.
func (b *Builder) ClearLock(name string) *Entry { return b.Add(&ClearLock{Name: name}) }

// Start starts a service.
func (b *Builder) Start(service string) *Entry { return b.Control(service, Start) }

// Stop stops a service.
func (b *Builder) Stop(service string) *Entry { return b.Control(service, Stop) }

// Restart restarts a service, once, at the end of the apply phase.
func (b *Builder) Restart(service string) *Entry { return b.Control(service, Restart) }

// Control does any action to a service.
func (b *Builder) Control(service string, action ServiceAction) *Entry {
	return b.Add(&ControlService{Service: service, Action: action})
}

// CertificateEntry refines a certificate that is asked for.
type CertificateEntry struct {
	*Entry
	certificate *IssueCertificate
}

// DNSNames adds names beyond those of the node's record.
func (e *CertificateEntry) DNSNames(names ...string) *CertificateEntry {
	e.certificate.DNSNames = append(e.certificate.DNSNames, names...)
	return e
}

// IPAddresses adds addresses beyond those of the node's record.
func (e *CertificateEntry) IPAddresses(addresses ...string) *CertificateEntry {
	e.certificate.IPAddresses = append(e.certificate.IPAddresses, addresses...)
	return e
}

// Life wishes for a life.
func (e *CertificateEntry) Life(life time.Duration) *CertificateEntry {
	e.certificate.Life = life
	return e
}

// Peer asks a control-plane node's agent instead of the local issuer.
func (e *CertificateEntry) Peer(address string) *CertificateEntry {
	e.certificate.Peer = address
	return e
}

// IssueCertificate has the core make a key and get a certificate of a profile.
func (b *Builder) IssueCertificate(profile string) *CertificateEntry {
	a := &IssueCertificate{Profile: profile}
	return &CertificateEntry{Entry: b.Add(a), certificate: a}
}

// SetTrust sets the bundle that verifies an authority's certificates, of
// servers and of clients.
func (b *Builder) SetTrust(authority string, bundle []byte) *Entry {
	return b.Add(&SetTrust{Authority: authority, Bundle: bundle})
}

// SetTrusts sets the two bundles of an authority whose clients are verified by
// another than its servers are.
func (b *Builder) SetTrusts(authority string, servers, clients []byte) *Entry {
	return b.Add(&SetTrust{Authority: authority, Bundle: servers, ClientBundle: clients})
}

// ChangeMember changes the datastore's membership.
func (b *Builder) ChangeMember(action MemberAction, peerAddress, name string) *Entry {
	return b.Add(&ChangeMember{Action: action, PeerAddress: peerAddress, Name: name})
}

// Wait waits until one thing is so.
func (b *Builder) Wait(w Wait) *Entry { return b.Add(&w) }

// ManifestsEntry refines manifests that are applied.
type ManifestsEntry struct {
	*Entry
	manifests *ApplyManifests
}

// Secret hides the manifests.
func (e *ManifestsEntry) Secret() *ManifestsEntry { e.manifests.Secret = true; return e }

// ApplyManifests applies objects and remembers them under an inventory.
func (b *Builder) ApplyManifests(inventory string, manifests []byte) *ManifestsEntry {
	a := &ApplyManifests{Inventory: inventory, Manifests: manifests}
	return &ManifestsEntry{Entry: b.Add(a), manifests: a}
}

// DeleteManifests deletes all objects of an inventory.
func (b *Builder) DeleteManifests(inventory string) *Entry {
	return b.Add(&DeleteManifests{Inventory: inventory})
}
