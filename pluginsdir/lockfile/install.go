package lockfile

import (
	"fmt"
	"hash/fnv"
	"slices"

	"mk8s.io/mk/pluginsdir/problem"
)

// PlanInstall answers the lock with one more version, giving its plugin a uid
// where it has none: seed (the root folder) spreads those of several nodes on
// one machine. The same content again changes nothing but the consent. Another
// content under the same version is refused unless replace is set, and while
// the old one is active or pinned in any case.
func PlanInstall(l *Lock, i Installed, seed string, replace bool, pins []Pin) (*Lock, error) {
	n := l.clone()
	for k := range n.Installed {
		o := &n.Installed[k]
		if o.String() != i.String() || o.Version != i.Version {
			continue
		}
		if o.Digest == i.Digest {
			i.By, i.At, i.Source = o.By, o.At, o.Source
			*o = i
			return n, nil
		}
		if err := l.replaceable(*o, i, replace, pins); err != nil {
			return nil, err
		}
		n.Installed = slices.Delete(n.Installed, k, k+1)
		break
	}
	if err := n.giveUser(i.String(), seed); err != nil {
		return nil, err
	}
	n.Installed = append(n.Installed, i)
	n.sort()
	return n, nil
}

func (l *Lock) replaceable(old, i Installed, replace bool, pins []Pin) error {
	if !replace {
		return problem.Refused(fmt.Sprintf("plugin %s %s is installed with another content", i.Identity, i.Version),
			fmt.Sprintf("its digest is %s, the new one's %s", old.Digest, i.Digest),
			"give it another version, or add --reinstall")
	}
	if err := l.removable(old, pins); err != nil {
		return fmt.Errorf("replacing the content of %s %s: %w", i.Identity, i.Version, err)
	}
	return nil
}

// giveUser finds a free uid, beginning where the seed says.
func (l *Lock) giveUser(id, seed string) error {
	if _, ok := l.Users[id]; ok {
		return nil
	}
	taken := map[int]bool{}
	for _, uid := range l.Users {
		taken[uid] = true
	}
	h := fnv.New32a()
	h.Write([]byte(seed + "\n" + id))
	const count = LastUser - FirstUser + 1
	start := int(h.Sum32() % count)
	for i := range count {
		if uid := FirstUser + (start+i)%count; !taken[uid] {
			l.Users[id] = uid
			return nil
		}
	}
	return problem.New(fmt.Sprintf("plugin %s cannot be installed", id),
		fmt.Sprintf("all user numbers from %d to %d are given out", FirstUser, LastUser), "")
}

// PlanRebuilt answers the lock with i in place of the installed version of the
// same name, wherever that is active. It is for what mk itself ships, whose
// build replaced mk's own programs as well.
func PlanRebuilt(l *Lock, i Installed) (*Lock, error) {
	n := l.clone()
	k := slices.IndexFunc(n.Installed, func(o Installed) bool { return o.String() == i.String() && o.Version == i.Version })
	if k < 0 {
		return nil, fmt.Errorf("%s %s is not installed", i.Identity, i.Version)
	}
	old := n.Installed[k].Digest
	n.Installed[k] = i
	for a := range n.Active {
		if n.Active[a].Digest == old {
			n.Active[a].Digest = i.Digest
		}
		for p := range n.Active[a].Previous {
			if n.Active[a].Previous[p].Digest == old {
				n.Active[a].Previous[p].Digest = i.Digest
			}
		}
	}
	return n, nil
}
