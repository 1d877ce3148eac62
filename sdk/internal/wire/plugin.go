package wire

import (
	"errors"

	"mk8s.io/mk/sdk/plugin"
	pluginv1 "mk8s.io/mk/sdk/proto/mk/plugin/v1"
)

// FromDescription encodes what a plugin says of itself.
func FromDescription(d plugin.Description) *pluginv1.DescribeResponse {
	g := d.Grants
	return &pluginv1.DescribeResponse{
		Identity: &pluginv1.Identity{Kind: d.Identity.Kind, Name: d.Identity.Name,
			Version: d.Identity.Version, Publisher: d.Identity.Publisher},
		Contracts: d.Contracts, Capabilities: d.Capabilities, SettingsSchema: d.Settings, Exportable: d.Exportable,
		Grants: &pluginv1.Grants{FilesRead: g.FilesRead, FilesWrite: g.FilesWrite, Services: g.Services,
			Arguments: g.Arguments, Certificates: g.Certificates, Network: g.Network, Members: g.Members,
			Locks: g.Locks, Trust: g.Trust, HostExec: g.HostExec,
			Objects: each(g.Objects, func(o plugin.ObjectGrant) *pluginv1.ObjectGrant {
				return &pluginv1.ObjectGrant{Group: o.Group, Kinds: o.Kinds, Namespaces: o.Namespaces}
			})},
		Steps: each(d.Steps, func(s plugin.StepDescription) *pluginv1.StepDescription {
			return &pluginv1.StepDescription{Question: s.Question, Name: s.Name, Revocable: s.Revocable, Summary: s.Summary}
		}),
		Routes: each(d.Routes, func(r plugin.Route) *pluginv1.Route {
			return &pluginv1.Route{Method: r.Method, Path: r.Path, Headers: r.Headers, Reserved: r.Reserved}
		}),
	}
}

// ToDescription decodes what a plugin says of itself.
func ToDescription(m *pluginv1.DescribeResponse) plugin.Description {
	i, g := m.GetIdentity(), m.GetGrants()
	return plugin.Description{
		Identity:  plugin.Identity{Kind: i.GetKind(), Name: i.GetName(), Version: i.GetVersion(), Publisher: i.GetPublisher()},
		Contracts: m.GetContracts(), Capabilities: m.GetCapabilities(), Settings: m.GetSettingsSchema(), Exportable: m.GetExportable(),
		Grants: plugin.Grants{FilesRead: g.GetFilesRead(), FilesWrite: g.GetFilesWrite(), Services: g.GetServices(),
			Arguments: g.GetArguments(), Certificates: g.GetCertificates(), Network: g.GetNetwork(), Members: g.GetMembers(),
			Locks: g.GetLocks(), Trust: g.GetTrust(), HostExec: g.GetHostExec(),
			Objects: each(g.GetObjects(), func(o *pluginv1.ObjectGrant) plugin.ObjectGrant {
				return plugin.ObjectGrant{Group: o.GetGroup(), Kinds: o.GetKinds(), Namespaces: o.GetNamespaces()}
			})},
		Steps: each(m.GetSteps(), func(s *pluginv1.StepDescription) plugin.StepDescription {
			return plugin.StepDescription{Question: s.GetQuestion(), Name: s.GetName(), Revocable: s.GetRevocable(), Summary: s.GetSummary()}
		}),
		Routes: each(m.GetRoutes(), func(r *pluginv1.Route) plugin.Route {
			return plugin.Route{Method: r.GetMethod(), Path: r.GetPath(), Headers: r.GetHeaders(), Reserved: r.GetReserved()}
		}),
	}
}

// FromCall encodes which question is asked.
func FromCall(c plugin.Call) *pluginv1.Call {
	return &pluginv1.Call{OperationId: c.OperationID, Step: fromStep(c.Step)}
}

// ToCall decodes which question is asked.
func ToCall(m *pluginv1.Call) plugin.Call {
	return plugin.Call{OperationID: m.GetOperationId(), Step: toStep(m.GetStep())}
}

func fromStep(s plugin.Step) *pluginv1.Step {
	if s.IsZero() && len(s.State) == 0 {
		return nil
	}
	return &pluginv1.Step{Name: s.Name, State: s.State}
}

func toStep(m *pluginv1.Step) plugin.Step {
	return plugin.Step{Name: m.GetName(), State: m.GetState()}
}

func fromNotYet(n *plugin.NotYet) *pluginv1.NotYet {
	if n == nil {
		return nil
	}
	return &pluginv1.NotYet{RetryAfter: fromDuration(n.RetryAfter), WaitingFor: n.WaitingFor}
}

func toNotYet(m *pluginv1.NotYet) (*plugin.NotYet, error) {
	if m == nil {
		return nil, nil
	}
	d, err := toDuration("retry after", m.GetRetryAfter())
	return &plugin.NotYet{RetryAfter: d, WaitingFor: m.GetWaitingFor()}, err
}

// FromAnswer encodes an answer.
func FromAnswer(a plugin.Answer) (*pluginv1.Answer, error) {
	if err := checkAnswer(a); err != nil {
		return nil, err
	}
	c, err := FromChangeSet(a.Changes)
	if err != nil {
		return nil, err
	}
	return &pluginv1.Answer{Changes: c, Next: fromStep(a.Next), NotYet: fromNotYet(a.NotYet)}, nil
}

// ToAnswer decodes an answer; none at all changes nothing and ends.
func ToAnswer(m *pluginv1.Answer) (plugin.Answer, error) {
	c, err := ToChangeSet(m.GetChanges())
	if err != nil {
		return plugin.Answer{}, err
	}
	n, err := toNotYet(m.GetNotYet())
	if err != nil {
		return plugin.Answer{}, err
	}
	a := plugin.Answer{Changes: c, Next: toStep(m.GetNext()), NotYet: n}
	return a, checkAnswer(a)
}

func checkAnswer(a plugin.Answer) error {
	if a.NotYet != nil && (len(a.Changes.Operations) > 0 || !a.Next.IsZero()) {
		return errors.New("answers not yet together with changes or a next step")
	}
	if a.Next.IsZero() && len(a.Next.State) > 0 {
		return errors.New("answers a next step without a name")
	}
	return nil
}

// FromNode encodes the facts of a node.
func FromNode(n plugin.Node) *pluginv1.Node {
	c := n.Cluster
	return &pluginv1.Node{Name: n.Name, Role: n.Role, Address: n.Address, Addresses: n.Addresses, Hostname: n.Hostname,
		Versions: n.Versions, Files: n.Files, Cluster: &pluginv1.Cluster{Id: c.ID, PodCidr: c.PodCIDR,
			ServiceCidr: c.ServiceCIDR, DnsAddress: c.DNSAddress, DnsDomain: c.DNSDomain, ApiPort: c.APIPort, AgentPort: c.AgentPort}}
}

// ToNode decodes the facts of a node.
func ToNode(m *pluginv1.Node) plugin.Node {
	c := m.GetCluster()
	return plugin.Node{Name: m.GetName(), Role: m.GetRole(), Address: m.GetAddress(), Addresses: m.GetAddresses(),
		Hostname: m.GetHostname(), Versions: m.GetVersions(), Files: m.GetFiles(),
		Cluster: plugin.Cluster{ID: c.GetId(), PodCIDR: c.GetPodCidr(), ServiceCIDR: c.GetServiceCidr(),
			DNSAddress: c.GetDnsAddress(), DNSDomain: c.GetDnsDomain(), APIPort: c.GetApiPort(), AgentPort: c.GetAgentPort()}}
}
