package service

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	maxArgs   = 1024
	maxArgLen = 64 << 10
)

// Alias gives the service that a component's name stands for: the parts of
// kubelite mean kubelite. Other names stand for themselves.
func Alias(name string) string {
	switch name {
	case "apiserver", "controller-manager", "scheduler", "kubelet", "proxy":
		return "kubelite"
	}
	return name
}

// WithDefaults returns d with the defaults filled in.
func (d Definition) WithDefaults() Definition {
	if len(d.Argv) == 0 {
		d.Argv = []string{d.Path}
	}
	d.Dir = cmp.Or(d.Dir, "/")
	d.StopTimeout = cmp.Or(d.StopTimeout, DefaultStopTimeout)
	d.StopSignal = cmp.Or(d.StopSignal, syscall.SIGTERM)
	d.KillMode = cmp.Or(d.KillMode, KillGroup)
	return d
}

// Validate reports everything that is wrong with d. A definition that passes
// can be written as a unit file and started as a process without surprises.
func (d Definition) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if err := ValidateName(d.Name); err != nil {
		errs = append(errs, err)
	}
	if !filepath.IsAbs(d.Path) || filepath.Clean(d.Path) != d.Path || !printable(d.Path) {
		add("program %q is not a clean absolute path", d.Path)
	}
	if d.Dir != "" && (!filepath.IsAbs(d.Dir) || !printable(d.Dir)) {
		add("folder %q is not an absolute path", d.Dir)
	}
	if d.Ready.Unix != "" && !filepath.IsAbs(d.Ready.Unix) {
		add("socket %q is not an absolute path", d.Ready.Unix)
	}
	if len(d.Argv) > maxArgs || len(d.Env)+len(d.SecretEnv) > maxArgs {
		add("more than %d arguments or variables", maxArgs)
	}
	for _, a := range d.Argv {
		if len(a) > maxArgLen || strings.ContainsRune(a, 0) {
			add("argument %.40q is too long or contains NUL", a)
		}
	}
	for _, e := range d.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || !validVariable(name) || len(e) > maxArgLen || strings.ContainsRune(e, 0) {
			add("variable %.40q is not NAME=value", e)
		}
	}
	for _, e := range d.SecretEnv { // the value is never shown
		if name, value, ok := strings.Cut(e, "="); !ok || !validVariable(name) || len(e) > maxArgLen || !printable(value) {
			add("a secret variable is not NAME=value on one line")
		}
	}
	if d.StopTimeout < 0 || d.StopTimeout > time.Hour {
		add("stop timeout %s is not between 0 and 1h", d.StopTimeout)
	}
	if d.StopSignal < 0 || d.StopSignal > 64 {
		add("stop signal %d does not exist", int(d.StopSignal))
	}
	if !slices.Contains([]KillMode{"", KillGroup, KillProcess}, d.KillMode) {
		add("kill mode %q is neither %s nor %s", d.KillMode, KillGroup, KillProcess)
	}
	if d.OOMScoreAdjust < -1000 || d.OOMScoreAdjust > 1000 {
		add("OOM score %d is not between -1000 and 1000", d.OOMScoreAdjust)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("definition of service %q: %w", d.Name, err)
	}
	return nil
}

// ValidateName reports whether name can be a service's name.
func ValidateName(name string) error {
	ok, _ := regexp.MatchString(`^[a-z0-9][a-z0-9-]{0,39}$`, name)
	if !ok {
		return fmt.Errorf("name %.60q is not of a-z, 0-9 and -", name)
	}
	return nil
}

// ValidateAll validates each definition and that they have an order.
func ValidateAll(defs []Definition) error {
	errs := make([]error, 0, len(defs)+1)
	for _, d := range defs {
		errs = append(errs, d.Validate())
	}
	_, err := Order(defs)
	return errors.Join(append(errs, err)...)
}

func validVariable(name string) bool {
	ok, _ := regexp.MatchString(`^[A-Za-z_][A-Za-z0-9_]*$`, name)
	return ok
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
