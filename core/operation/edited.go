package operation

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/pluginsdir"
)

const mirrors = "args/certs.d"

// EditedFaults looks at every file that a person may edit and a service reads,
// and at the marker files. Each fault is a *node.FileError with file and line.
// Who would restart a service looks first: most of them say nothing, or go
// down, where a file is wrong.
func (n *Node) EditedFaults() []error {
	var out []error
	fault := func(err error) {
		if _, known := errors.AsType[*node.FileError](err); err != nil && !known {
			err = &node.FileError{Err: err}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			out = append(out, err)
		}
	}
	for _, s := range n.ArgumentFiles() {
		_, err := args.Load(n.Root.Args(s))
		fault(err)
	}
	read := func(name string, parse func(file string, data []byte) error) {
		data, err := n.Root.ReadFile(name)
		if err == nil {
			err = parse(n.Root.Path(name), data)
		}
		fault(err)
	}
	read(knownTokens, func(file string, data []byte) error {
		_, err := kubeconfig.ParseTokens(file, data)
		return err
	})
	for name, check := range checked() {
		read(name, check)
	}
	for _, f := range kubeconfig.Files() {
		read("credentials/"+f.Name, func(file string, data []byte) error {
			_, err := kubeconfig.Parse(file, data)
			return err
		})
	}
	if _, err := n.Root.Lstat(confTemplate); err == nil && n.Record != nil {
		_, err := n.Issuer.serverNames()
		fault(err)
	}
	registries, err := n.Root.ReadDir(mirrors)
	fault(err)
	for _, r := range registries {
		if r.IsDir() {
			read(mirrors+"/"+r.Name()+"/hosts.toml", checkHosts)
		}
	}
	for _, err := range n.settingsFaults() {
		fault(err)
	}
	fault(n.checkRequests())
	return out
}

// settingsFaults looks at the settings of the active plugins; only root reads
// them.
func (n *Node) settingsFaults() []error {
	lock, err := n.Dir.Lock()
	if err != nil {
		return []error{err}
	}
	var out []error
	seen := map[string]bool{}
	for _, a := range lock.Active {
		entry, ok := lock.Find(a.Digest)
		if _, err := n.Root.Lstat("plugins/" + pluginsdir.SettingsName(a.Kind, a.Name)); err != nil || !ok || seen[a.Digest] {
			continue
		}
		seen[a.Digest] = true
		m, err := n.Dir.Manifest(entry)
		if err == nil {
			_, err = n.Dir.LoadSettings(m)
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			out = append(out, err)
		}
	}
	return out
}

// checkEdited is the first fault.
func (n *Node) checkEdited() error {
	if faults := n.EditedFaults(); len(faults) > 0 {
		return faults[0]
	}
	return nil
}

// hosts is a hosts.toml as containerd documents it. containerd passes over a
// file that it cannot read, and over keys that it does not know.
type hosts struct {
	Server string `toml:"server"`
	registry
	Hosts map[string]registry `toml:"host"`
}

type registry struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// checkHosts says what containerd would not understand in a hosts.toml.
func checkHosts(file string, data []byte) error {
	var h hosts
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&h)
	if e, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(e.Errors) > 0 {
		line, _ := e.Errors[0].Position()
		return fmt.Errorf("%s:%d: unknown key %q", file, line, strings.Join(e.Errors[0].Key(), "."))
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := e.Position()
		return fmt.Errorf("%s:%d: %w", file, line, err)
	}
	if err != nil {
		return fmt.Errorf("%s:1: %w", file, err)
	}
	at := func(text string) string {
		return fmt.Sprintf("%s:%d", file, 1+bytes.Count(data[:max(0, bytes.Index(data, []byte(text)))], []byte("\n")))
	}
	urls := []string{h.Server}
	for u := range h.Hosts {
		urls = append(urls, u)
	}
	slices.Sort(urls)
	for _, text := range urls {
		full := text
		if !strings.Contains(full, "://") { // containerd takes https then
			full = "https://" + full
		}
		if u, err := url.Parse(full); text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%s: %q is not the address of a registry", at(text), text)
		}
		for _, x := range []registry{h.registry, h.Hosts[text]} {
			for _, c := range x.Capabilities {
				if !slices.Contains([]string{"pull", "resolve", "push"}, c) {
					return fmt.Errorf("%s: %q is not one of pull, resolve, push", at(`"`+c), c)
				}
			}
			if _, err := time.ParseDuration(x.DialTimeout); x.DialTimeout != "" && err != nil {
				return fmt.Errorf("%s: %q is not a time like 10s", at("dial_timeout"), x.DialTimeout)
			}
		}
	}
	return nil
}
