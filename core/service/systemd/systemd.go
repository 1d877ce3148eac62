// Package systemd controls a node's services as units of the systemd that
// runs the machine, spoken to through D-Bus.
//
// Unit files are a function of the definitions and are rewritten, and systemd
// reloaded, only where the text changes. Services write the same log files as
// under the embedded supervisor. Not guaranteed: before systemd 254, growing
// pauses between restarts (one second each there) and an exact count of them
// where systemd is reloaded during such a pause, which it then counts again;
// and rotation of the logs, which whoever calls this package does
// (logfile.Watch).
package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
)

var (
	_ service.Controller = (*Controller)(nil)
	_ service.Enabler    = (*Controller)(nil)
	_ service.Remover    = (*Controller)(nil)
)

// DefaultUnitDir is where an administrator's units are.
const DefaultUnitDir = "/etc/systemd/system"

// Detect reports whether systemd runs this machine.
func Detect() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Options configures a Controller.
type Options struct {
	// ID tells nodes on one machine apart, of a-z, 0-9 and -. It is empty for
	// the default root folder, whose units are mk-<service>.service; others
	// are mk-<id>-<service>.service.
	ID      string
	UnitDir string // default DefaultUnitDir
	LogDir  string // <service>.log each
	// StateFile holds the definitions, so that names, order and readiness are
	// known without parsing units.
	StateFile string
}

// Controller drives units. It connects for each call.
type Controller struct{ opts Options }

// New returns a controller; it does not connect.
func New(opts Options) (*Controller, error) {
	if opts.ID != "" {
		if err := service.ValidateName(opts.ID); err != nil {
			return nil, fmt.Errorf("node id: %w", err)
		}
	}
	if opts.UnitDir == "" {
		opts.UnitDir = DefaultUnitDir
	}
	return &Controller{opts: opts}, nil
}

// Unit is the name of a service's unit.
func (c *Controller) Unit(name string) string {
	if c.opts.ID == "" {
		return "mk-" + name + ".service"
	}
	return "mk-" + c.opts.ID + "-" + name + ".service"
}

// Text is the unit of a service for a version of systemd; 0 is the oldest that
// mk runs with.
func (c *Controller) Text(d service.Definition, version int) string {
	return render(d, c.Unit, files{log: c.log(d.Name), secrets: c.secrets(d.Name)}, version)
}

func (c *Controller) log(name string) string { return logfile.Path(c.opts.LogDir, name) }

func connect(ctx context.Context) (*dbus.Conn, error) {
	if !Detect() {
		return nil, fmt.Errorf("%w: systemd does not run this machine", service.ErrNotRunning)
	}
	// systemd's own socket needs no message bus; only root may use it.
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		conn, err = dbus.NewSystemConnectionContext(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return conn, nil
}

// Apply implements service.Controller.
func (c *Controller) Apply(ctx context.Context, defs []service.Definition) error {
	if err := service.ValidateAll(defs); err != nil {
		return err
	}
	merged, err := c.merge(defs)
	if err != nil {
		return err
	}
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := os.MkdirAll(c.opts.LogDir, 0o750); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	if err := saveDefinitions(c.opts.StateFile, merged); err != nil {
		return err
	}
	changed := false
	for _, d := range defs {
		if len(d.SecretEnv) > 0 { // before the unit names it
			if err := node.WriteFile(c.secrets(d.Name), []byte(environment(d.SecretEnv)), node.Perm{Mode: 0o600, UID: -1, GID: -1}); err != nil {
				return fmt.Errorf("write the environment of %s: %w", d.Name, err)
			}
		}
		text := []byte(c.Text(d, version(conn)))
		path := filepath.Join(c.opts.UnitDir, c.Unit(d.Name))
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
			continue
		}
		if err := node.WriteFile(path, text, node.Perm{Mode: 0o644, UID: -1, GID: -1}); err != nil {
			return fmt.Errorf("write unit %s: %w", path, err)
		}
		changed = true
	}
	if changed || c.stale(ctx, conn, defs) {
		if err := reload(ctx, conn); err != nil {
			return err
		}
	}
	for _, d := range defs {
		if len(d.SecretEnv) > 0 {
			continue
		}
		if err := c.dropSecrets(d.Name); err != nil {
			return err
		}
	}
	return nil
}

// secrets is the file with what of a service's environment only root reads:
// everyone reads units, and asks systemd for what they hold.
func (c *Controller) secrets(name string) string {
	return filepath.Join(filepath.Dir(c.opts.StateFile), name+".env")
}

func (c *Controller) dropSecrets(name string) error {
	if err := os.Remove(c.secrets(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the environment of %s: %w", name, err)
	}
	return nil
}

// stale reports whether systemd knows another text than what is on disk: an
// earlier Apply ended between writing and reloading.
func (c *Controller) stale(ctx context.Context, conn *dbus.Conn, defs []service.Definition) bool {
	for _, d := range defs {
		p, err := conn.GetUnitPropertiesContext(ctx, c.Unit(d.Name))
		if err != nil || p["NeedDaemonReload"] == true || p["LoadState"] != "loaded" {
			return true
		}
	}
	return false
}

func (c *Controller) merge(defs []service.Definition) ([]service.Definition, error) {
	have, err := loadDefinitions(c.opts.StateFile)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, d := range defs {
		names[d.Name] = true
	}
	merged := append([]service.Definition{}, defs...)
	for _, d := range have {
		if !names[d.Name] {
			merged = append(merged, d)
		}
	}
	return merged, service.ValidateAll(merged)
}

// Remove implements service.Remover.
func (c *Controller) Remove(ctx context.Context, names ...string) error {
	defs, err := loadDefinitions(c.opts.StateFile)
	if err != nil {
		return err
	}
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	gone := map[string]bool{}
	for _, name := range names {
		if err := service.ValidateName(name); err != nil {
			return err
		}
		st := c.unitStatus(ctx, conn, name)
		if st.State != service.Stopped && st.State != service.Failed {
			return fmt.Errorf("remove %s: it is %s", name, st.State)
		}
		if _, err := conn.DisableUnitFilesContext(ctx, []string{c.Unit(name)}, false); err != nil && !notFound(err) {
			return fmt.Errorf("disable %s: %w", name, err)
		}
		if err := os.Remove(filepath.Join(c.opts.UnitDir, c.Unit(name))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove unit of %s: %w", name, err)
		}
		if err := c.dropSecrets(name); err != nil {
			return err
		}
		_ = conn.ResetFailedUnitContext(ctx, c.Unit(name)) // an error says that it had not failed
		gone[name] = true
	}
	var rest []service.Definition
	for _, d := range defs {
		if !gone[d.Name] {
			rest = append(rest, d)
		}
	}
	if err := saveDefinitions(c.opts.StateFile, rest); err != nil {
		return err
	}
	return reload(ctx, conn)
}

func notFound(err error) bool {
	return strings.Contains(err.Error(), "not exist") || strings.Contains(err.Error(), "not found") ||
		strings.Contains(err.Error(), "No such file")
}

// version is systemd's, 0 where it does not tell.
func version(conn *dbus.Conn) int {
	raw, err := conn.GetManagerProperty("Version")
	if err != nil {
		return 0
	}
	s := strings.Trim(raw, `"`)
	if end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		s = s[:end]
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
