package node

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// RunBase is the folder of all nodes' sockets on this machine.
const RunBase = "/run/mk"

// Dir is the root folder.
func (r *Root) Dir() string { return r.dir }

// Path is a path below the root folder.
func (r *Root) Path(elem ...string) string { return r.under("", elem) }

// Args is the argument file of a service.
func (r *Root) Args(service string) string { return r.Path("args", service) }

// Certs is a path in the current generation of the certificates, through the
// link, so that it stays right when they switch.
func (r *Root) Certs(elem ...string) string { return r.under("certs", elem) }

// Credentials is a path among the kubeconfigs and tokens.
func (r *Root) Credentials(elem ...string) string { return r.under("credentials", elem) }

// Locks is a path in the folder of locks and marker files.
func (r *Root) Locks(elem ...string) string { return r.under("var/lock", elem) }

// Backend is a path in the datastore's folder.
func (r *Root) Backend(elem ...string) string { return r.under("var/kubernetes/backend", elem) }

// Journal is a path among the operations and ChangeSets.
func (r *Root) Journal(elem ...string) string { return r.under("var/journal", elem) }

// Plugins is a path in the folder that pluginsdir manages.
func (r *Root) Plugins(elem ...string) string { return r.under("plugins", elem) }

// PluginState is the folder that a plugin has for itself.
func (r *Root) PluginState(kind, name string) string { return r.Path("plugins/state", kind, name) }

// Logs is the log file of a service under the embedded supervisor.
func (r *Root) Logs(service string) string { return r.Path("var/log", service+".log") }

// RecordFile is the path of node.json.
func (r *Root) RecordFile() string { return r.Path(recordName) }

// ID names this root folder on this machine: the first 8 hex digits of the
// SHA-256 of its path.
func (r *Root) ID() string {
	sum := sha256.Sum256([]byte(r.dir))
	return hex.EncodeToString(sum[:4])
}

// RunDir is a path in this node's folder for sockets. It is short, whatever
// the root folder's path, because a socket's path may have 107 bytes. The
// caller makes the folder.
func (r *Root) RunDir(elem ...string) string {
	return filepath.Join(append([]string{RunBase, r.ID()}, elem...)...)
}

// CgroupRoot is this node's cgroup, relative to the cgroup file system.
func (r *Root) CgroupRoot() string { return "/mk/" + r.ID() }

func (r *Root) under(folder string, elem []string) string {
	return filepath.Join(append([]string{r.dir, folder}, elem...)...)
}
