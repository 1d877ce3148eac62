package pluginsdir

import (
	"fmt"

	"mk8s.io/mk/pluginsdir/lockfile"
	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/problem"
)

func (in *install) consent(reasons []string) error {
	p := &Proposal{
		Manifest: in.manifest, Digest: in.entry.Digest, Class: in.entry.Class, Reasons: reasons,
		Grants: manifest.Lines(in.manifest.Grants), Previous: agreedBefore(in.lock, in.entry),
	}
	p.Widened = p.Grants
	if p.Previous != nil {
		p.Widened = manifest.Widened(p.Previous.Grants, in.manifest.Grants)
		if was, is := p.Previous.Publisher, in.entry.Publisher; was != is {
			p.Widened = append(p.Widened, fmt.Sprintf("comes from another publisher: %q, was %q", is, was))
		}
		if len(p.Widened) == 0 && (p.Class == manifest.Contained || p.Previous.Class == p.Class) {
			in.entry.Consent = p.Previous.Consent
			return nil
		}
	}
	if in.options.Consent == nil {
		return problem.Refused(in.name()+" was not installed", "nobody agreed to what it may do", "")
	}
	if err := in.options.Consent(p); err != nil {
		return fmt.Errorf("asking for what %s may do: %w", in.name(), err)
	}
	in.entry.Consent = lockfile.Consent{By: in.options.By, At: in.options.At.UTC()}
	return nil
}

// agreedBefore is the version whose grants count as agreed to: the same
// content, the active one, or the newest.
func agreedBefore(l *lockfile.Lock, e lockfile.Installed) *lockfile.Installed {
	if same, ok := l.Find(e.Digest); ok {
		return &same
	}
	for _, a := range l.ActiveOf(e.Kind) {
		if i, ok := l.Find(a.Digest); ok && a.Name == e.Name {
			return &i
		}
	}
	if v := l.Versions(e.Kind, e.Name); len(v) > 0 {
		return &v[0]
	}
	return nil
}
