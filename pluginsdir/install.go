package pluginsdir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"mk8s.io/mk/pluginsdir/folder"
	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/problem"
)

// Step is how far an install came.
type Step string

// Steps of an install, in order. Killed before StepLock, it has not happened:
// the next install or Sweep removes what it left. Killed after, it has happened
// and Sweep completes its receipt.
const (
	StepResolve Step = "resolve" // the manifest was read and fits this mk
	StepCopy    Step = "copy"    // the folder was copied under a temporary name
	StepVerify  Step = "verify"  // the copy is what its manifest says, grants were agreed to
	StepStore   Step = "store"   // it has its final name in the store
	StepTrial   Step = "trial"   // it was started and says what its manifest says
	StepReceipt Step = "receipt" // the receipt is there, pending
	StepLock    Step = "lock"    // the lock file names it
	StepDone    Step = "done"    // the receipt is done
)

// Options say how to install. Host, By and At are required.
type Options struct {
	Host      manifest.Host
	By        string // who asked for it
	At        time.Time
	Source    string                // empty means "folder:" and the folder's path
	Reinstall bool                  // put another content in place of the same version
	Consent   func(*Proposal) error // asked where grants are new; nil refuses them
	Trial     Trial                 // nil means that it is not started
	Pins      []lockfile.Pin        // versions that open operations need
	Limits    folder.Limits         // zero means folder.DefaultLimits

	reached func(Step) error // tests stop an install here
	rebuilt bool             // a shipped plugin takes another content's place
	// activate makes a shipped plugin active with the write that installs it.
	activate func(*lockfile.Lock) (*lockfile.Lock, error)
}

// Trial starts a plugin that is stored but not installed yet, asks what it is
// and stops it.
type Trial interface {
	Try(ctx context.Context, c Candidate) (*Described, error)
}

// Candidate is a plugin to be tried.
type Candidate struct {
	Installed lockfile.Installed
	Manifest  *manifest.Manifest
	Folder    string // in the store
	User      int
}

// Proposal is what a person agrees to.
type Proposal struct {
	Manifest *manifest.Manifest
	Digest   string
	Class    manifest.Class
	Reasons  []string            // why it is root-equivalent
	Grants   []string            // all, one line each
	Widened  []string            // those that Previous did not have
	Previous *lockfile.Installed // nil at the first install
}

// Result is what was installed.
type Result struct {
	Installed lockfile.Installed
	Manifest  *manifest.Manifest
	User      int
	Already   bool // it was installed, with the same content
}

// install is one running install.
type install struct {
	dir      *Dir
	options  Options
	lock     *lockfile.Lock
	store    *os.Root
	incoming string // name in the store
	tree     folder.Tree
	manifest *manifest.Manifest
	raw      []byte
	entry    lockfile.Installed
	next     *lockfile.Lock
	already  bool
}

// Install puts the plugin in a folder into the store and the lock file; it
// activates nothing. The folder may be hostile and may change meanwhile: what is
// judged is the copy. The same content again is no error and repairs a damaged
// copy. After an error nothing is installed and nothing is left but what the
// next install sweeps.
func (d *Dir) Install(ctx context.Context, from string, o Options) (*Result, error) {
	if o.Source == "" {
		abs, err := filepath.Abs(from)
		if err != nil {
			return nil, fmt.Errorf("finding folder %s: %w", from, err)
		}
		o.Source = "folder:" + abs
	}
	lock, err := d.Sweep(ctx)
	if err != nil {
		return nil, err
	}
	in := newInstall(d, lock, o)
	defer in.close()
	if err := in.fetch(ctx, from); err != nil {
		return nil, err
	}
	return in.finish(ctx)
}

// newInstall begins an install. The store was swept, and lock is what it has.
func newInstall(d *Dir, lock *lockfile.Lock, o Options) *install {
	if o.Limits == (folder.Limits{}) {
		o.Limits = folder.DefaultLimits()
	}
	if o.reached == nil {
		o.reached = func(Step) error { return nil }
	}
	return &install{dir: d, options: o, lock: lock}
}

// Propose says what Install would ask a person to agree to where nothing of the
// plugin is installed. It reads the folder and changes nothing.
func Propose(ctx context.Context, from string, host manifest.Host) (*Proposal, error) {
	source, err := os.OpenRoot(from)
	if err != nil {
		return nil, fmt.Errorf("opening the plugin's folder: %w", err)
	}
	defer source.Close()
	in := &install{options: Options{Host: host}, lock: &lockfile.Lock{}}
	if err := in.resolve(source, from); err != nil {
		return nil, err
	}
	if in.tree, err = folder.Read(ctx, source, folder.DefaultLimits()); err != nil {
		return nil, problem.Wrap(err, in.name()+" cannot be installed", "", errors.Is(err, folder.ErrHostile))
	}
	if err := in.whole(); err != nil {
		return nil, err
	}
	m := in.manifest
	class, reasons := manifest.Classify(m.Identity.Kind, m.Grants)
	return &Proposal{Manifest: m, Digest: in.tree.Digest(), Class: class, Reasons: reasons, Grants: manifest.Lines(m.Grants), Widened: manifest.Lines(m.Grants)}, nil
}

// step is one step of an install.
type step struct {
	name Step
	do   func() error
}

func (in *install) take(steps ...step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return err
		}
		if err := in.options.reached(s.name); err != nil {
			return err
		}
	}
	return nil
}

// fetch copies the folder into the store, under a temporary name. Several
// installs may do so at once.
func (in *install) fetch(ctx context.Context, from string) error {
	source, err := os.OpenRoot(from)
	if err != nil {
		return fmt.Errorf("opening the plugin's folder: %w", err)
	}
	defer source.Close()
	if in.store, err = in.dir.openStore(); err != nil {
		return err
	}
	return in.take(
		step{StepResolve, func() error { return in.resolve(source, from) }},
		step{StepCopy, func() error { return in.copy(ctx, source) }},
	)
}

// finish judges what was fetched and installs it.
func (in *install) finish(ctx context.Context) (*Result, error) {
	err := in.take(
		step{StepVerify, in.verify},
		step{StepStore, func() error { return in.settle(ctx) }},
		step{StepTrial, func() error { return in.try(ctx) }},
		step{StepReceipt, func() error { return in.receipt(Pending) }},
		step{StepLock, func() error { return in.dir.WriteLock(in.next) }},
		step{StepDone, func() error { return in.receipt(Done) }},
	)
	if err != nil {
		return nil, err
	}
	uid, _ := in.next.User(in.entry.Kind, in.entry.Name)
	return &Result{Installed: in.entry, Manifest: in.manifest, User: uid, Already: in.already}, nil
}

// close removes what was fetched and not installed.
func (in *install) close() {
	if in.store == nil {
		return
	}
	in.discard()
	_ = in.store.Close() // nothing was written to it
}

// resolve reads the manifest where it lies, so that what cannot fit is refused
// before anything is copied.
func (in *install) resolve(source *os.Root, from string) error {
	raw, err := readPlain(source, manifest.FileName, manifest.MaxSize)
	if err != nil {
		return problem.Wrap(err, fmt.Sprintf("%s is no plugin's folder", from), "a plugin's folder holds "+manifest.FileName, false)
	}
	m, err := manifest.Parse(raw, filepath.Join(from, manifest.FileName))
	if err != nil {
		return fmt.Errorf("reading the manifest: %w", err)
	}
	in.manifest, in.raw = m, raw
	return in.options.Host.Check(m, in.dir.manifests(in.lock, m.Identity.Kind, m.Identity.Name)...)
}

// manifests are those installed of a plugin, as far as they can be read.
func (d *Dir) manifests(l *lockfile.Lock, kind, name string) []*manifest.Manifest {
	var out []*manifest.Manifest
	for _, v := range l.Versions(kind, name) {
		if m, err := d.Manifest(v); err == nil {
			out = append(out, m)
		}
	}
	return out
}

func readPlain(r *os.Root, name string, limit int64) ([]byte, error) {
	info, err := r.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", name)
	}
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

func (in *install) copy(ctx context.Context, source *os.Root) error {
	name, to, err := in.dir.newIncoming(in.store)
	if err != nil {
		return err
	}
	in.incoming = name
	defer to.Close()
	in.tree, err = folder.Copy(ctx, source, to, in.options.Limits)
	if err != nil {
		return problem.Wrap(err, in.name()+" was not installed", "", errors.Is(err, folder.ErrHostile))
	}
	return folder.Seal(to, in.tree)
}

func (in *install) name() string {
	return fmt.Sprintf("plugin %s %s", in.manifest.Identity.Identity, in.manifest.Identity.Version)
}

// verify compares the copy with its manifest, which must be the one that was
// read before, and asks for consent.
func (in *install) verify() error {
	if err := in.whole(); err != nil {
		return err
	}
	return in.plan()
}

// whole compares a tree with its manifest.
func (in *install) whole() error {
	what := in.name() + " was refused"
	e, ok := in.tree.File(manifest.FileName)
	if !ok || "sha256:"+e.SHA256 != digestOf(in.raw) {
		return problem.Refused(what, manifest.FileName+" changed while it was read", "install it again")
	}
	own, _ := in.manifest.Program(in.options.Host.OS, in.options.Host.Arch)
	for _, p := range in.manifest.Platforms {
		f, ok := in.tree.File(p.Bin)
		switch {
		case !ok && p == own:
			return problem.Refused(what, fmt.Sprintf("its program %s for this machine is missing", p.Bin), "")
		case ok && f.SHA256 != p.SHA256:
			return problem.Refused(what, fmt.Sprintf("sha256 of %s is %s, its manifest says %s", p.Bin, f.SHA256, p.SHA256),
				"get it again from its publisher")
		case ok && !f.Executable:
			return problem.Refused(what, p.Bin+" is not executable", "chmod +x "+p.Bin)
		}
	}
	return nil
}

// plan computes the new entry and lock file.
func (in *install) plan() error {
	m, o := in.manifest, in.options
	class, reasons := manifest.Classify(m.Identity.Kind, m.Grants)
	in.entry = lockfile.Installed{
		Identity: m.Identity.Identity, Description: m.Identity.Description,
		Digest: in.tree.Digest(), Manifest: digestOf(in.raw), Contracts: m.Contracts, Programs: m.Platforms,
		Grants: m.Grants, Class: class, Source: o.Source, By: o.By, At: o.At.UTC(),
	}
	if err := in.consent(reasons); err != nil {
		return err
	}
	_, in.already = in.lock.Find(in.entry.Digest)
	var err error
	if o.rebuilt {
		in.next, err = lockfile.PlanRebuilt(in.lock, in.entry)
	} else {
		in.next, err = lockfile.PlanInstall(in.lock, in.entry, in.dir.path, o.Reinstall, o.Pins)
	}
	if err != nil {
		return err
	}
	in.entry, _ = in.next.Find(in.entry.Digest)
	if o.activate != nil {
		in.next, err = o.activate(in.next)
	}
	return err
}

func (in *install) try(ctx context.Context) error {
	if in.options.Trial == nil {
		return nil
	}
	uid, _ := in.next.User(in.entry.Kind, in.entry.Name)
	said, err := in.options.Trial.Try(ctx, Candidate{
		Installed: in.entry, Manifest: in.manifest, Folder: in.dir.StorePath(in.entry.Digest), User: uid,
	})
	if err == nil {
		err = CheckDescribed(in.manifest, said)
	}
	if err == nil {
		return in.dir.SaveDescribed(in.entry.Digest, said)
	}
	err = problem.Wrap(err, in.name()+" was not installed", "", errors.Is(err, ErrRefused))
	if _, installed := in.lock.Find(in.entry.Digest); installed {
		return err
	}
	return errors.Join(err, folder.Remove(in.store, storeName(in.entry.Digest)))
}

func (in *install) receipt(s State) error {
	return in.dir.Record(in.entry.Kind, in.entry.Name, Event{
		Action: "install", State: s, Version: in.entry.Version, Digest: in.entry.Digest,
		Source: in.options.Source, By: in.options.By, At: in.options.At,
	})
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
