package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"mk8s.io/mk/pluginsdir/problem"
)

// Host is what this mk offers to plugins.
type Host struct {
	Contracts []string // such as mk.certs.v1
	Version   string   // of mk; where it is no semver, requirements are not compared
	OS, Arch  string
}

// Check says whether this mk can work with the plugin: errors.Is finds
// problem.ErrRefused. others are known manifests of the same plugin, among
// which one that fits is looked for.
func (h Host) Check(m *Manifest, others ...*Manifest) error {
	why, next := h.misfit(m)
	if why == "" {
		return nil
	}
	if fits := h.newestThatFits(m, others); fits != nil {
		v, _ := semver.StrictNewVersion(fits.Identity.Version)
		why += fmt.Sprintf("; %s is the newest that fits", fits.Identity.Version)
		next = fmt.Sprintf("mk plugin install %s@~%d.%d", m.Identity.Identity, v.Major(), v.Minor())
	}
	return problem.Refused(fmt.Sprintf("plugin %s %s does not fit", m.Identity.Identity, m.Identity.Version), why, next)
}

func (h Host) misfit(m *Manifest) (why, next string) {
	id := fmt.Sprintf("%s %s", m.Identity.Identity, m.Identity.Version)
	if theirs, ours, ok := h.contract(m); !ok {
		return fmt.Sprintf("%s speaks %s, this mk speaks %s", id, theirs, ours), "take a version that speaks " + ours
	}
	if !h.satisfies(m.Requires.MK) {
		return fmt.Sprintf("%s needs mk %s, this is mk %s", id, m.Requires.MK, h.Version), "mk upgrade"
	}
	if _, ok := m.Program(h.OS, h.Arch); !ok {
		return fmt.Sprintf("%s has programs for %s, this machine is %s/%s", id, platformNames(m.Platforms), h.OS, h.Arch),
			"ask its publisher for this machine's program"
	}
	return "", ""
}

// contract compares those of the plugin's own kind; others may be there too.
func (h Host) contract(m *Manifest) (theirs, ours string, ok bool) {
	prefix := "mk." + m.Identity.Identity.Kind + ".v"
	var t, o []string
	for _, c := range m.Contracts {
		if strings.HasPrefix(c, prefix) {
			t = append(t, strings.TrimPrefix(c, "mk."))
			ok = ok || slices.Contains(h.Contracts, c)
		}
	}
	for _, c := range h.Contracts {
		if strings.HasPrefix(c, prefix) {
			o = append(o, strings.TrimPrefix(c, "mk."))
		}
	}
	if len(o) == 0 {
		o = []string{"none of that kind"}
	}
	return strings.Join(t, " and "), strings.Join(o, " and "), ok
}

// satisfies compares without pre-release: mk 1.4.0-rc.1 has what 1.4.0 has.
func (h Host) satisfies(constraint string) bool {
	v, err := semver.NewVersion(h.Version)
	if constraint == "" || err != nil {
		return true
	}
	c, err := semver.NewConstraint(constraint)
	return err == nil && c.Check(semver.New(v.Major(), v.Minor(), v.Patch(), "", ""))
}

func platformNames(platforms []Platform) string {
	names := make([]string, len(platforms))
	for i, p := range platforms {
		names[i] = p.OS + "/" + p.Arch
	}
	return strings.Join(names, ", ")
}

func (h Host) newestThatFits(m *Manifest, others []*Manifest) *Manifest {
	var best *Manifest
	for _, o := range others {
		if o.Identity.Identity.String() != m.Identity.Identity.String() {
			continue
		}
		if why, _ := h.misfit(o); why != "" {
			continue
		}
		if best == nil || CompareVersions(o.Identity.Version, best.Identity.Version) > 0 {
			best = o
		}
	}
	return best
}

// CompareVersions orders versions as semver does; what is none comes first.
func CompareVersions(a, b string) int {
	va, ea := semver.StrictNewVersion(a)
	vb, eb := semver.StrictNewVersion(b)
	switch {
	case ea != nil && eb != nil:
		return strings.Compare(a, b)
	case ea != nil:
		return -1
	case eb != nil:
		return 1
	}
	if c := va.Compare(vb); c != 0 {
		return c
	}
	return strings.Compare(va.Metadata(), vb.Metadata())
}
