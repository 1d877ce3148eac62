package operation

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/settings"
	"mk8s.io/mk/pluginsdir"
)

// patience is how long a disk may take where nobody says.
const patience = 30 * time.Second

func (o Options) patience() time.Duration {
	if o.Patience > 0 {
		return o.Patience
	}
	return patience
}

// OpenNode opens the node of a root folder. The error is ErrNoNode where there is
// none, and a *node.SilentError where the folder does not answer. It changes
// nothing.
func OpenNode(o Options) (*Node, error) {
	return o.open(func(opts node.Options) (*node.Root, error) {
		root, err := node.Open(o.Root, opts)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", o.Root, ErrNoNode)
		}
		return root, err
	})
}

// CreateNode makes the root folder, or completes it, and opens it. Its error
// is a *node.SilentError where the folder does not answer.
func CreateNode(o Options) (*Node, error) {
	return o.open(func(opts node.Options) (*node.Root, error) { return node.Create(o.Root, opts) })
}

func (o Options) open(open func(node.Options) (*node.Root, error)) (*Node, error) {
	return node.Await(o.patience(), o.Root, func(at func(string)) (*Node, error) {
		at(o.settingsFile())
		set, opts, err := readSettings(o, o.settingsFile())
		if err != nil {
			return nil, err
		}
		at(o.Root)
		root, err := open(opts)
		if err != nil {
			return nil, err
		}
		return assemble(o, root, set, at)
	}, func(n *Node) { _ = n.close() })
}

// Unanswered is the node of a folder that does not answer. Only what needs
// nothing of the folder can be asked of it: its services, above all.
func Unanswered(o Options, silent *node.SilentError) (*Node, error) {
	set, _, err := readSettings(o, "")
	if err != nil {
		return nil, err
	}
	root, err := node.Unopened(o.Root)
	if err != nil {
		return nil, err
	}
	n := &Node{Options: o, Root: root, Settings: set, Silent: silent}
	return n, n.equip()
}

// Unread is nil where the parts of the node's folder answer; else it is a
// *node.SilentError that names the first that does not.
func (n *Node) Unread(parts ...string) error {
	if n.Silent != nil {
		return n.Silent
	}
	for _, p := range parts {
		if slices.Contains(n.Dead, p) {
			return &node.SilentError{Path: n.Root.Path(p), After: n.patience()}
		}
	}
	return nil
}

func (o Options) settingsFile() string { return o.Root + "/settings.yaml" }

// readSettings reads a settings file; an empty name is one that is not there.
func readSettings(o Options, file string) (*settings.Settings, node.Options, error) {
	set, err := settings.Load(file, o.Env)
	if err != nil {
		return nil, node.Options{}, err
	}
	for k, v := range o.Settings {
		if err := set.Override(k, v); err != nil {
			return nil, node.Options{}, err
		}
	}
	group, err := set.Get("group")
	if err != nil {
		return nil, node.Options{}, err
	}
	gid, name, err := node.AdminGroup(group.Value)
	if err != nil {
		return nil, node.Options{}, err
	}
	return set, node.Options{GID: gid, Group: name, Step: o.Step}, nil
}

func assemble(o Options, root *node.Root, set *settings.Settings, at func(string)) (*Node, error) {
	n := &Node{Options: o, Root: root, Settings: set, Machine: defaults.Detect()}
	at(root.RecordFile())
	record, err := root.LoadRecord()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, root.Close())
	}
	if err == nil {
		n.Record = record
	}
	at(o.Executable)
	if n.Programs, err = node.FindPrograms(o.Executable); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := n.equip(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return n, nil
}

// equip gives a node what it works with. It touches no disk.
func (n *Node) equip() (err error) {
	if n.Log == nil {
		n.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard})
	}
	if n.services, err = n.controller(); err != nil {
		return err
	}
	n.Dir = pluginsdir.New(n.Root.Plugins(), pluginFiles{n.Root})
	n.set = &PluginSet{Root: n.Root, Dir: n.Dir, Log: n.Log, ClusterID: n.clusterID, Answer: n.answers}
	n.Plugins = n.set
	n.wire()
	return nil
}

// Close ends the plugins and connections that were needed. What does not end
// because its disk is gone is left behind: the error names the folder.
func (n *Node) Close() error {
	_, err := node.Await(n.patience(), n.Root.Dir(), func(func(string)) (struct{}, error) { return struct{}{}, n.close() }, func(struct{}) {})
	return err
}

func (n *Node) close() error {
	if n.Silent != nil {
		return nil // nothing was opened
	}
	n.mu.Lock()
	if n.kube != nil {
		n.kube.Close()
	}
	n.mu.Unlock()
	return errors.Join(n.set.Close(), n.Root.Close())
}
