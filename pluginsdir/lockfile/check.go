package lockfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/strict"
	"mk8s.io/mk/sdk/plugin"
)

func parseStrict(data []byte, file string) (*Lock, error) {
	d, err := strict.Read(data, file, MaxSize)
	if err != nil {
		return nil, err
	}
	var l Lock
	d.Decode(&l)
	for _, f := range faults(&l) {
		d.Fault(f.path, "%s", f.message)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return &l, nil
}

type fault struct{ path, message string }

// faults finds what does not hold together, whoever wrote it.
func faults(l *Lock) []fault {
	var out []fault
	add := func(path, format string, args ...any) {
		out = append(out, fault{path, fmt.Sprintf(format, args...)})
	}
	if l.Schema != Schema {
		add("schema", "is %d, this mk reads %d", l.Schema, Schema)
		return out
	}
	users := map[int]string{}
	for id, uid := range l.Users {
		if kind, name, _, err := SplitName(id); err != nil || kind+"/"+name != id {
			add("users."+id, "is no kind/name")
		}
		if uid < FirstUser || uid > LastUser {
			add("users."+id, "must be between %d and %d", FirstUser, LastUser)
		}
		if other, taken := users[uid]; taken {
			add("users."+id, "%d is also given to %s", uid, other)
		}
		users[uid] = id
	}
	digests := map[string]*Installed{}
	versions := map[string]bool{}
	for n := range l.Installed {
		i := &l.Installed[n]
		at := fmt.Sprintf("installed[%d]", n)
		for _, m := range installedFaults(l, i) {
			add(at, "%s", m)
		}
		if versions[i.String()+i.Version] || digests[i.Digest] != nil {
			add(at, "%s %s is there twice", i, i.Version)
		}
		versions[i.String()+i.Version], digests[i.Digest] = true, i
	}
	for n := range l.Active {
		a := &l.Active[n]
		at := fmt.Sprintf("active[%d]", n)
		for _, m := range activeFaults(a, digests) {
			add(at, "%s", m)
		}
		if slices.ContainsFunc(l.Active[:n], func(b Active) bool { return a.sameSlot(&b) }) {
			add(at, "another plugin is active in the same place")
		}
	}
	return out
}

func installedFaults(l *Lock, i *Installed) []string {
	var out []string
	if !slices.Contains(plugin.Kinds(), i.Kind) || !manifest.ValidName(i.Name) {
		out = append(out, fmt.Sprintf("%q is no kind/name", i.Identity))
	}
	if _, err := semver.StrictNewVersion(i.Version); err != nil {
		out = append(out, fmt.Sprintf("%q is no version", i.Version))
	}
	if !ValidDigest(i.Digest) || !ValidDigest(i.Manifest) {
		out = append(out, "digest and manifest must be \"sha256:\" and 64 digits of hex")
	}
	if i.Class != manifest.RootEquivalent && i.Class != manifest.Contained {
		out = append(out, fmt.Sprintf("class %q is unknown", i.Class))
	}
	if _, ok := l.User(i.Kind, i.Name); !ok {
		out = append(out, fmt.Sprintf("%s has no entry in users", i.Identity))
	}
	if len(i.Programs) == 0 {
		out = append(out, "programs is empty")
	}
	for _, p := range i.Programs {
		if !ValidDigest("sha256:"+p.SHA256) || !manifest.LocalPath(p.Bin) {
			out = append(out, fmt.Sprintf("program %q is not valid", p.Bin))
		}
	}
	return out
}

func activeFaults(a *Active, digests map[string]*Installed) []string {
	var out []string
	if message := slotFault(a.Kind, a.Authority); message != "" {
		out = append(out, message)
	}
	switch i := digests[a.Digest]; {
	case i == nil:
		out = append(out, fmt.Sprintf("%s %s is active but not installed", a, a.Version))
	case i.String() != a.String() || i.Version != a.Version:
		out = append(out, fmt.Sprintf("%s %s has the digest of %s %s", a, a.Version, i, i.Version))
	}
	if len(a.Previous) > maxPrevious {
		out = append(out, fmt.Sprintf("previous holds more than %d entries", maxPrevious))
	}
	return out
}

func slotFault(kind, authority string) string {
	switch {
	case kind == plugin.KindCerts && !slices.Contains(Authorities(), authority):
		return fmt.Sprintf("authority %q is unknown: must be one of %v", authority, Authorities())
	case kind != plugin.KindCerts && authority != "":
		return fmt.Sprintf("%s plugins are not active for an authority", kind)
	}
	return ""
}

// ValidDigest says whether s is "sha256:" and 64 digits of lower-case hex.
func ValidDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}
