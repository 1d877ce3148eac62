package changeset

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// isNil finds the typed nil that hides in an interface.
func isNil(a Action) bool { return reflect.ValueOf(a).IsNil() }

func (a *MakeFolder) check(l *list) {
	l.checkPath("path", a.Path)
	l.checkMode(a.Mode, false)
}

func (a *WriteFile) check(l *list) {
	l.checkPath("path", a.Path)
	l.checkMode(a.Mode, a.Secret)
	l.checkSize("content", a.Content)
}

func (a *MovePath) check(l *list) {
	l.checkPath("from", a.From)
	l.checkPath("to", a.To)
	if a.From == a.To {
		l.addf("from and to are the same path")
	}
}

func (a *RemovePath) check(l *list) { l.checkPath("path", a.Path) }

func (a *SetArgument) check(l *list) {
	l.checkOption(a.Service, a.Option, a.Owner)
	if a.Value != nil && (len(*a.Value) > maxText || !line(*a.Value)) {
		l.addf("value is not one line of at most %d bytes", maxText)
	}
}

func (a *RemoveArgument) check(l *list) { l.checkOption(a.Service, a.Option, a.Owner) }
func (a *SetLock) check(l *list)        { l.checkLock(a.Name) }
func (a *ClearLock) check(l *list)      { l.checkLock(a.Name) }

func (l *list) checkLock(name string) { l.checkName("lock", name) }

func (a *ControlService) check(l *list) {
	l.checkName("service", a.Service)
	if !slices.Contains([]ServiceAction{Start, Stop, Restart, Enable, Disable}, a.Action) {
		l.addf("action %.80q is unknown", string(a.Action))
	}
}

func (a *IssueCertificate) check(l *list) {
	l.checkName("profile", a.Profile)
	for _, n := range a.DNSNames {
		if n == "" || len(n) > 253 || !line(n) {
			l.addf("DNS name %.80q is not a name", n)
		}
	}
	for _, n := range a.IPAddresses {
		if !address(n) {
			l.addf("%.80q is not an IP address", n)
		}
	}
	if a.Life < 0 {
		l.addf("life %v is negative", a.Life)
	}
	if a.Peer != "" {
		l.checkEndpoint("peer", a.Peer)
	}
}

func (a *SetTrust) check(l *list) {
	l.checkName("authority", a.Authority)
	l.checkSize("bundle", a.Bundle)
	l.checkSize("clientBundle", a.ClientBundle)
	if len(a.Bundle) == 0 {
		l.addf("bundle is empty")
	}
}

func (a *ChangeMember) check(l *list) {
	if !slices.Contains([]MemberAction{AddLearner, Promote, RemoveMember}, a.Action) {
		l.addf("action %.80q is unknown", string(a.Action))
	}
	l.checkPeerURL(a.PeerAddress)
	if a.Name != "" {
		l.checkName("member", a.Name)
	}
}

func (a *Wait) check(l *list) {
	if a.Timeout < 0 || a.Timeout > MaxWait {
		l.addf("timeout %v is not between 0 and %v", a.Timeout, MaxWait)
	}
	targets := 0
	for _, set := range []bool{a.Service != "", a.Address != "", a.Node != "", a.Object != nil, a.MemberCaughtUp != "", a.MemberVoting != ""} {
		if set {
			targets++
		}
	}
	if targets != 1 {
		l.addf("%d targets are named, one must be", targets)
	}
	if a.Service != "" {
		l.checkName("service", a.Service)
	}
	if a.Address != "" {
		l.checkEndpoint("address", a.Address)
	}
	if a.Node != "" && !objectForm.MatchString(a.Node) {
		l.addf("node %.80q is not a node's name", a.Node)
	}
	if a.Object != nil {
		l.checkObject(*a.Object)
	}
	for _, m := range []string{a.MemberCaughtUp, a.MemberVoting} {
		if m != "" {
			l.checkPeerURL(m)
		}
	}
}

func (a *ApplyManifests) check(l *list) {
	l.checkName("inventory", a.Inventory)
	l.checkSize("manifests", a.Manifests)
	if len(a.Manifests) == 0 {
		l.addf("manifests are empty")
	}
}

func (a *DeleteManifests) check(l *list) { l.checkName("inventory", a.Inventory) }

func (a *ActivatePlugin) check(l *list) {
	l.checkName("kind", a.Kind)
	l.checkName("name", a.Name)
	if !digestForm.MatchString(a.Digest) {
		l.addf("digest %.80q is not sha256: with 64 hexadecimal digits", a.Digest)
	}
	if a.Authority != "" {
		l.checkName("authority", a.Authority)
	}
}

// Verb names what an operation does, as the journal and grants name it:
// "write file". It never shows a value.
func (o Operation) Verb() string {
	if o.Action == nil || isNil(o.Action) {
		return "nothing"
	}
	verb, _ := o.Action.show()
	return verb
}

// Target names what an operation is done to: a path, service/option, a
// service, an inventory. It never shows a value.
func (o Operation) Target() string {
	if o.Action == nil || isNil(o.Action) {
		return ""
	}
	_, target := o.Action.show()
	return target
}

// String is the operation in one line, without values.
func (o Operation) String() string {
	s := o.Verb() + " " + o.Target()
	if o.Scope == ScopeCluster {
		s += " on every node"
	}
	return s
}

func (a *MakeFolder) show() (string, string)  { return "make folder", a.Path }
func (a *WriteFile) show() (string, string)   { return "write file", a.Path }
func (a *MovePath) show() (string, string)    { return "move", a.From + " to " + a.To }
func (a *RemovePath) show() (string, string)  { return "remove", a.Path }
func (a *SetArgument) show() (string, string) { return "set argument", a.Service + "/" + a.Option }
func (a *RemoveArgument) show() (string, string) {
	return "remove argument", a.Service + "/" + a.Option
}
func (a *SetLock) show() (string, string)        { return "set lock", a.Name }
func (a *ClearLock) show() (string, string)      { return "clear lock", a.Name }
func (a *ControlService) show() (string, string) { return string(a.Action) + " service", a.Service }

func (a *IssueCertificate) show() (string, string) {
	s := a.Profile
	if a.Life > 0 {
		s += ", " + days(a.Life)
	}
	if a.Peer != "" {
		s += ", by " + a.Peer
	}
	return "certificate", s
}

func (a *SetTrust) show() (string, string) { return "trust", a.Authority }

func (a *ChangeMember) show() (string, string) {
	verbs := map[MemberAction]string{AddLearner: "add learner", Promote: "promote member", RemoveMember: "remove member"}
	verb, ok := verbs[a.Action]
	if !ok {
		verb = "change member"
	}
	return verb, a.PeerAddress
}

func (a *Wait) show() (string, string) {
	switch {
	case a.Service != "":
		return "wait for service", a.Service
	case a.Address != "":
		return "wait for address", a.Address
	case a.Node != "":
		return "wait for node", a.Node
	case a.Object != nil:
		return "wait for object", a.Object.String()
	case a.MemberCaughtUp != "":
		return "wait until caught up", a.MemberCaughtUp
	case a.MemberVoting != "":
		return "wait until voting", a.MemberVoting
	}
	return "wait", ""
}

func (a *ApplyManifests) show() (string, string)  { return "apply manifests", a.Inventory }
func (a *DeleteManifests) show() (string, string) { return "delete manifests", a.Inventory }

func (a *ActivatePlugin) show() (string, string) {
	s := a.Kind + "/" + a.Name
	if a.Authority != "" {
		s += " for " + a.Authority
	}
	return "activate plugin", s
}

// String is kind namespace/name.
func (o ObjectReference) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// days shows whole days as such.
func days(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}
