package wire

import (
	"errors"
	"fmt"

	"mk8s.io/mk/sdk/changeset"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// FromChangeSet encodes a ChangeSet. An operation without action cannot be
// encoded.
func FromChangeSet(c changeset.ChangeSet) (*pluginv1.ChangeSet, error) {
	ops, err := eachFrom("operation", c.Operations, fromOperation)
	if err != nil {
		return nil, err
	}
	return &pluginv1.ChangeSet{Operations: ops}, nil
}

// ToChangeSet decodes a ChangeSet; none at all is an empty one.
func ToChangeSet(m *pluginv1.ChangeSet) (changeset.ChangeSet, error) {
	if n := len(m.GetOperations()); n > changeset.MaxOperations {
		return changeset.ChangeSet{}, fmt.Errorf("%d operations, at most %d are allowed", n, changeset.MaxOperations)
	}
	ops, err := eachFrom("operation", m.GetOperations(), toOperation)
	return changeset.ChangeSet{Operations: ops}, err
}

func fromOperation(o changeset.Operation) (*pluginv1.Operation, error) {
	m := &pluginv1.Operation{Expects: o.Expects, Why: o.Why}
	switch o.Scope {
	case changeset.ScopeNode, "":
		m.Scope = pluginv1.Scope_SCOPE_NODE
	case changeset.ScopeCluster:
		m.Scope = pluginv1.Scope_SCOPE_CLUSTER
	default:
		return nil, fmt.Errorf("scope %q is unknown", o.Scope)
	}
	return m, setAction(m, o.Action)
}

// setAction encodes the actions of paths, arguments and locks, and hands the
// others on.
func setAction(m *pluginv1.Operation, action changeset.Action) error {
	switch a := action.(type) {
	case *changeset.MakeFolder:
		m.Action = &pluginv1.Operation_MakeFolder{MakeFolder: &pluginv1.MakeFolder{Path: a.Path, Mode: a.Mode}}
	case *changeset.WriteFile:
		m.Action = &pluginv1.Operation_WriteFile{WriteFile: &pluginv1.WriteFile{
			Path: a.Path, Content: a.Content, Mode: a.Mode, Secret: a.Secret}}
	case *changeset.MovePath:
		m.Action = &pluginv1.Operation_MovePath{MovePath: &pluginv1.MovePath{From: a.From, To: a.To}}
	case *changeset.RemovePath:
		m.Action = &pluginv1.Operation_RemovePath{RemovePath: &pluginv1.RemovePath{Path: a.Path}}
	case *changeset.SetArgument:
		m.Action = &pluginv1.Operation_SetArgument{SetArgument: &pluginv1.SetArgument{
			Service: a.Service, Option: a.Option, Value: a.Value, Owner: a.Owner, Secret: a.Secret}}
	case *changeset.RemoveArgument:
		m.Action = &pluginv1.Operation_RemoveArgument{RemoveArgument: &pluginv1.RemoveArgument{
			Service: a.Service, Option: a.Option, Owner: a.Owner}}
	case *changeset.SetLock:
		m.Action = &pluginv1.Operation_SetLock{SetLock: &pluginv1.SetLock{Name: a.Name}}
	case *changeset.ClearLock:
		m.Action = &pluginv1.Operation_ClearLock{ClearLock: &pluginv1.ClearLock{Name: a.Name}}
	default:
		return setClusterAction(m, action)
	}
	return nil
}

func setClusterAction(m *pluginv1.Operation, action changeset.Action) (err error) {
	switch a := action.(type) {
	case *changeset.ControlService:
		var to pluginv1.ServiceAction
		to, err = fromEnum(serviceActions(), a.Action)
		m.Action = &pluginv1.Operation_ControlService{ControlService: &pluginv1.ControlService{Service: a.Service, Action: to}}
	case *changeset.IssueCertificate:
		m.Action = &pluginv1.Operation_IssueCertificate{IssueCertificate: &pluginv1.IssueCertificate{
			Profile: a.Profile, DnsNames: a.DNSNames, IpAddresses: a.IPAddresses, Life: fromDuration(a.Life), Peer: a.Peer}}
	case *changeset.SetTrust:
		m.Action = &pluginv1.Operation_SetTrust{SetTrust: &pluginv1.SetTrust{Authority: a.Authority, Bundle: a.Bundle, ClientBundle: a.ClientBundle}}
	case *changeset.ChangeMember:
		var to pluginv1.MemberAction
		to, err = fromEnum(memberActions(), a.Action)
		m.Action = &pluginv1.Operation_ChangeMember{ChangeMember: &pluginv1.ChangeMember{
			Action: to, PeerAddress: a.PeerAddress, Name: a.Name}}
	case *changeset.Wait:
		var w *pluginv1.Wait
		w, err = fromWait(a)
		m.Action = &pluginv1.Operation_Wait{Wait: w}
	case *changeset.ApplyManifests:
		m.Action = &pluginv1.Operation_ApplyManifests{ApplyManifests: &pluginv1.ApplyManifests{
			Inventory: a.Inventory, Manifests: a.Manifests, Secret: a.Secret}}
	case *changeset.DeleteManifests:
		m.Action = &pluginv1.Operation_DeleteManifests{DeleteManifests: &pluginv1.DeleteManifests{Inventory: a.Inventory}}
	case *changeset.ActivatePlugin:
		m.Action = &pluginv1.Operation_ActivatePlugin{ActivatePlugin: &pluginv1.ActivatePlugin{
			Kind: a.Kind, Name: a.Name, Digest: a.Digest, Authority: a.Authority}}
	case nil:
		return errors.New("has no action")
	default:
		return fmt.Errorf("action %T is unknown", action)
	}
	return err
}

func toOperation(m *pluginv1.Operation) (changeset.Operation, error) {
	o := changeset.Operation{Expects: m.GetExpects(), Why: m.GetWhy()}
	switch m.GetScope() {
	case pluginv1.Scope_SCOPE_UNSPECIFIED, pluginv1.Scope_SCOPE_NODE:
		o.Scope = changeset.ScopeNode
	case pluginv1.Scope_SCOPE_CLUSTER:
		o.Scope = changeset.ScopeCluster
	default:
		return o, fmt.Errorf("scope %d is unknown", m.GetScope())
	}
	var err error
	o.Action, err = toAction(m)
	return o, err
}

// toAction decodes the actions of paths, arguments and locks, and hands the
// others on. A oneof that is set to a nil message decodes as an empty one.
func toAction(m *pluginv1.Operation) (changeset.Action, error) {
	switch a := m.GetAction().(type) {
	case *pluginv1.Operation_MakeFolder:
		return &changeset.MakeFolder{Path: a.MakeFolder.GetPath(), Mode: a.MakeFolder.GetMode()}, nil
	case *pluginv1.Operation_WriteFile:
		f := a.WriteFile
		return &changeset.WriteFile{Path: f.GetPath(), Content: f.GetContent(), Mode: f.GetMode(), Secret: f.GetSecret()}, nil
	case *pluginv1.Operation_MovePath:
		return &changeset.MovePath{From: a.MovePath.GetFrom(), To: a.MovePath.GetTo()}, nil
	case *pluginv1.Operation_RemovePath:
		return &changeset.RemovePath{Path: a.RemovePath.GetPath()}, nil
	case *pluginv1.Operation_SetArgument:
		s := a.SetArgument
		out := &changeset.SetArgument{Service: s.GetService(), Option: s.GetOption(), Owner: s.GetOwner(), Secret: s.GetSecret()}
		if s != nil {
			out.Value = s.Value
		}
		return out, nil
	case *pluginv1.Operation_RemoveArgument:
		r := a.RemoveArgument
		return &changeset.RemoveArgument{Service: r.GetService(), Option: r.GetOption(), Owner: r.GetOwner()}, nil
	case *pluginv1.Operation_SetLock:
		return &changeset.SetLock{Name: a.SetLock.GetName()}, nil
	case *pluginv1.Operation_ClearLock:
		return &changeset.ClearLock{Name: a.ClearLock.GetName()}, nil
	}
	return toClusterAction(m)
}

func toClusterAction(m *pluginv1.Operation) (changeset.Action, error) {
	switch a := m.GetAction().(type) {
	case *pluginv1.Operation_ControlService:
		to, err := toEnum("service action", serviceActions(), a.ControlService.GetAction())
		return &changeset.ControlService{Service: a.ControlService.GetService(), Action: to}, err
	case *pluginv1.Operation_IssueCertificate:
		c := a.IssueCertificate
		life, err := toDuration("life", c.GetLife())
		return &changeset.IssueCertificate{Profile: c.GetProfile(), DNSNames: c.GetDnsNames(),
			IPAddresses: c.GetIpAddresses(), Life: life, Peer: c.GetPeer()}, err
	case *pluginv1.Operation_SetTrust:
		return &changeset.SetTrust{
			Authority: a.SetTrust.GetAuthority(), Bundle: a.SetTrust.GetBundle(), ClientBundle: a.SetTrust.GetClientBundle(),
		}, nil
	case *pluginv1.Operation_ChangeMember:
		c := a.ChangeMember
		to, err := toEnum("member action", memberActions(), c.GetAction())
		return &changeset.ChangeMember{Action: to, PeerAddress: c.GetPeerAddress(), Name: c.GetName()}, err
	case *pluginv1.Operation_Wait:
		return toWait(a.Wait)
	case *pluginv1.Operation_ApplyManifests:
		p := a.ApplyManifests
		return &changeset.ApplyManifests{Inventory: p.GetInventory(), Manifests: p.GetManifests(), Secret: p.GetSecret()}, nil
	case *pluginv1.Operation_DeleteManifests:
		return &changeset.DeleteManifests{Inventory: a.DeleteManifests.GetInventory()}, nil
	case *pluginv1.Operation_ActivatePlugin:
		p := a.ActivatePlugin
		return &changeset.ActivatePlugin{Kind: p.GetKind(), Name: p.GetName(), Digest: p.GetDigest(), Authority: p.GetAuthority()}, nil
	}
	if m != nil && len(m.ProtoReflect().GetUnknown()) > 0 {
		return nil, errors.New("asks for an action that this version does not know")
	}
	return nil, errors.New("has no action")
}

func fromWait(w *changeset.Wait) (*pluginv1.Wait, error) {
	m := &pluginv1.Wait{Timeout: fromDuration(w.Timeout)}
	switch {
	case w.Service != "":
		m.Target = &pluginv1.Wait_Service{Service: w.Service}
	case w.Address != "":
		m.Target = &pluginv1.Wait_Address{Address: w.Address}
	case w.Node != "":
		m.Target = &pluginv1.Wait_Node{Node: w.Node}
	case w.Object != nil:
		m.Target = &pluginv1.Wait_Object{Object: FromObject(*w.Object)}
	case w.MemberCaughtUp != "":
		m.Target = &pluginv1.Wait_MemberCaughtUp{MemberCaughtUp: w.MemberCaughtUp}
	case w.MemberVoting != "":
		m.Target = &pluginv1.Wait_MemberVoting{MemberVoting: w.MemberVoting}
	default:
		return nil, errors.New("wait names no target")
	}
	return m, nil
}

func toWait(m *pluginv1.Wait) (changeset.Action, error) {
	timeout, err := toDuration("timeout", m.GetTimeout())
	if err != nil {
		return nil, err
	}
	w := &changeset.Wait{Timeout: timeout, Service: m.GetService(), Address: m.GetAddress(), Node: m.GetNode(),
		MemberCaughtUp: m.GetMemberCaughtUp(), MemberVoting: m.GetMemberVoting()}
	if o := m.GetObject(); o != nil {
		r := ToObject(o)
		w.Object = &r
	}
	return w, nil
}

// FromObject encodes an object's name.
func FromObject(o changeset.ObjectReference) *pluginv1.ObjectReference {
	return &pluginv1.ObjectReference{Group: o.Group, Version: o.Version, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

// ToObject decodes an object's name.
func ToObject(m *pluginv1.ObjectReference) changeset.ObjectReference {
	return changeset.ObjectReference{Group: m.GetGroup(), Version: m.GetVersion(), Kind: m.GetKind(),
		Namespace: m.GetNamespace(), Name: m.GetName()}
}

func serviceActions() map[changeset.ServiceAction]pluginv1.ServiceAction {
	return map[changeset.ServiceAction]pluginv1.ServiceAction{
		changeset.Start:   pluginv1.ServiceAction_SERVICE_ACTION_START,
		changeset.Stop:    pluginv1.ServiceAction_SERVICE_ACTION_STOP,
		changeset.Restart: pluginv1.ServiceAction_SERVICE_ACTION_RESTART,
		changeset.Enable:  pluginv1.ServiceAction_SERVICE_ACTION_ENABLE,
		changeset.Disable: pluginv1.ServiceAction_SERVICE_ACTION_DISABLE,
	}
}

func memberActions() map[changeset.MemberAction]pluginv1.MemberAction {
	return map[changeset.MemberAction]pluginv1.MemberAction{
		changeset.AddLearner:   pluginv1.MemberAction_MEMBER_ACTION_ADD_LEARNER,
		changeset.Promote:      pluginv1.MemberAction_MEMBER_ACTION_PROMOTE,
		changeset.RemoveMember: pluginv1.MemberAction_MEMBER_ACTION_REMOVE,
	}
}

func fromEnum[W ~string, N ~int32](table map[W]N, w W) (N, error) {
	n, ok := table[w]
	if !ok {
		return 0, fmt.Errorf("%q is unknown", string(w))
	}
	return n, nil
}

func toEnum[W ~string, N ~int32](what string, table map[W]N, n N) (W, error) {
	for w, v := range table {
		if v == n {
			return w, nil
		}
	}
	return "", fmt.Errorf("%s %d is unknown", what, int32(n))
}
