package changeset

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	maxText   = 4 << 10 // bytes of a name, path, reason or option value
	maxReason = 512
)

// Validate names all faults of a ChangeSet at once. It judges the form: what
// may be changed is a question of grants, which the core answers.
func (c ChangeSet) Validate() error {
	if n := len(c.Operations); n > MaxOperations {
		return fmt.Errorf("%d operations, at most %d are allowed", n, MaxOperations)
	}
	var faults []error
	total := 0
	for i, o := range c.Operations {
		for _, f := range o.faults() {
			faults = append(faults, fmt.Errorf("operation %d: %s: %w", i+1, o.Verb(), f))
		}
		total += o.size()
	}
	if total > MaxContent {
		faults = append(faults, fmt.Errorf("contents of %d bytes, at most %d are allowed", total, MaxContent))
	}
	return errors.Join(faults...)
}

func (o Operation) size() int {
	if o.Action == nil || isNil(o.Action) {
		return 0
	}
	switch a := o.Action.(type) {
	case *WriteFile:
		return len(a.Content)
	case *ApplyManifests:
		return len(a.Manifests)
	case *SetTrust:
		return len(a.Bundle)
	}
	return 0
}

// list collects the faults of one operation.
type list []error

func (l *list) addf(format string, args ...any) { *l = append(*l, fmt.Errorf(format, args...)) }

func (o Operation) faults() list {
	var l list
	if o.Scope != "" && o.Scope != ScopeNode && o.Scope != ScopeCluster {
		l.addf("scope %q is neither %s nor %s", o.Scope, ScopeNode, ScopeCluster)
	}
	if o.Expects != "" && o.Expects != Absent && !digestForm.MatchString(o.Expects) {
		l.addf("expects %q, which is neither %q nor sha256: with 64 hexadecimal digits", o.Expects, Absent)
	}
	if len(o.Why) > maxReason || !line(o.Why) {
		l.addf("the reason is not one line of at most %d bytes", maxReason)
	}
	if o.Action == nil || isNil(o.Action) {
		l.addf("has no action")
		return l
	}
	o.Action.check(&l)
	return l
}

var (
	digestForm  = form(`^sha256:[0-9a-f]{64}$`)
	nameForm    = form(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	optionForm  = form(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	ownerForm   = form(`^[a-z0-9]([a-z0-9./_-]{0,126}[a-z0-9])?$`)
	kindForm    = form(`^[A-Za-z][A-Za-z0-9]{0,62}$`)
	objectForm  = form(`^[A-Za-z0-9]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?$`)
	versionForm = form(`^v[0-9]+((alpha|beta)[0-9]+)?$`)
)

// pattern is compiled when it is first needed: together they would be a tenth
// of what every plugin does before it serves.
type pattern struct{ compiled func() *regexp.Regexp }

func form(expression string) pattern {
	return pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })}
}

// MatchString reports whether a text has this form.
func (p pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }

// checkPath accepts a clean path below the root folder, without "..".
func (l *list) checkPath(what, p string) {
	switch {
	case p == "":
		l.addf("%s is empty", what)
	case len(p) > maxText || !line(p) || strings.ContainsRune(p, '\\'):
		l.addf("%s %.80q has characters that paths may not have", what, p)
	case path.IsAbs(p):
		l.addf("%s %q is absolute; paths are relative to the root folder", what, p)
	case p == "." || !fs.ValidPath(p):
		l.addf("%s %q is not a clean path below the root folder", what, p)
	}
}

func (l *list) checkMode(mode uint32, secret bool) {
	if mode&^0o777 != 0 {
		l.addf("mode %#o has more than permission bits", mode)
	}
	if mode&0o002 != 0 {
		l.addf("mode %#o lets everyone write", mode)
	}
	if secret && mode&0o007 != 0 {
		l.addf("mode %#o lets others read a secret", mode)
	}
}

func (l *list) checkSize(what string, b []byte) {
	if len(b) > MaxFile {
		l.addf("%s of %d bytes, at most %d are allowed", what, len(b), MaxFile)
	}
}

func (l *list) checkName(what, s string) {
	if !nameForm.MatchString(s) {
		l.addf("%s %.80q is not a lower-case name of at most 63 characters", what, s)
	}
}

func (l *list) checkOption(service, option, owner string) {
	l.checkName("service", service)
	if !optionForm.MatchString(option) {
		l.addf("option %.80q is not an option's name without leading dashes", option)
	}
	if owner != "" && !ownerForm.MatchString(owner) {
		l.addf("owner %.80q is not a name", owner)
	}
}

func (l *list) checkEndpoint(what, s string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" || len(s) > 512 || !line(s) {
		l.addf("%s %.80q is not host:port", what, s)
	}
}

func (l *list) checkPeerURL(s string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || (u.Path != "" && u.Path != "/") || len(s) > 512 {
		l.addf("peer address %.80q is not https://address:port", s)
	}
}

func (l *list) checkObject(o ObjectReference) {
	if o.Group != "" && !nameForm.MatchString(o.Group) {
		l.addf("group %.80q is not an API group", o.Group)
	}
	if !versionForm.MatchString(o.Version) {
		l.addf("version %.80q is not an API version", o.Version)
	}
	if !kindForm.MatchString(o.Kind) {
		l.addf("kind %.80q is not a kind", o.Kind)
	}
	if o.Namespace != "" {
		l.checkName("namespace", o.Namespace)
	}
	if !objectForm.MatchString(o.Name) {
		l.addf("name %.80q is not an object's name", o.Name)
	}
}

// line reports whether a text is valid and has no control characters.
func line(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func address(s string) bool { _, err := netip.ParseAddr(s); return err == nil }
