package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/core/revoked"
)

// Report is what a node says of itself.
type Report struct {
	Node       string            `json:"node"`
	Generation int               `json:"generation"` // of what is wanted, that it has applied
	At         time.Time         `json:"at"`
	Error      string            `json:"error,omitempty"` // why it has not applied Tried
	Tried      int               `json:"tried,omitempty"` // the generation that failed
	Tries      int               `json:"tries,omitempty"` // how often it failed
	TriedAt    time.Time         `json:"triedAt,omitzero"`
	Drift      []Drift           `json:"drift,omitempty"` // where it is not as wanted
	Versions   map[string]string `json:"versions,omitempty"`
	Plugins    []Plugin          `json:"plugins,omitempty"` // active ones
}

// Plugin is a plugin that is active.
type Plugin struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Digest    string `json:"digest"`
	Authority string `json:"authority,omitempty"`
}

// Drift is one thing that is not as the cluster wants it. Values of secrets
// are left out.
type Drift struct {
	What  string `json:"what"` // kubelet --max-pods
	Want  string `json:"want"`
	Have  string `json:"have"`
	Local bool   `json:"local,omitempty"` // someone made it so on purpose, with --local
}

// String is one line for people.
func (d Drift) String() string {
	line := fmt.Sprintf("%s is %s, the cluster wants %s", d.What, d.Have, d.Want)
	if d.Local {
		line += " (--local)"
	}
	return line
}

const (
	reportPrefix   = "report."
	reportField    = "report"
	reportSelector = label + "=report"
)

// Reports reads and writes the reports.
type Reports struct{ Client *kube.Client }

// Put replaces a node's report. The object must be there: whoever takes a node
// in makes it, with the node's right to write it and no other.
func (s Reports) Put(ctx context.Context, r *Report) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the report of %s: %w", r.Node, err)
	}
	for range maxConflicts {
		doc, err := s.Client.ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, reportPrefix+r.Node)
		if err != nil {
			return err
		}
		if doc.Data == nil {
			doc.Data = map[string][]byte{}
		}
		doc.Data[reportField] = data
		if _, err = s.Client.WriteDocument(ctx, doc); err == nil || !kube.Conflict(err) {
			return err
		}
	}
	return errors.New("the report of " + r.Node + " is written by someone else all the time")
}

// List is every report, by node. One that its node has not written yet is left
// out, and so is one that cannot be read: nodes write them, not mk here.
func (s Reports) List(ctx context.Context) (map[string]*Report, error) {
	docs, err := s.Client.ListDocuments(ctx, kube.PlainDocument, kube.SystemNamespace, reportSelector)
	if err != nil {
		return nil, err
	}
	return reportsOf(docs), nil
}

// Watch calls see with all reports, each time that one has changed, until see
// answers true, which is no error, or ctx ends.
func (s Reports) Watch(ctx context.Context, see func(map[string]*Report) bool, trouble func(error)) error {
	all := map[string]*Report{}
	return s.Client.WatchDocuments(ctx, kube.PlainDocument, kube.SystemNamespace, reportSelector, func(changed []kube.Document) bool {
		maps.Copy(all, reportsOf(changed))
		return see(all)
	}, trouble)
}

func reportsOf(docs []kube.Document) map[string]*Report {
	out := map[string]*Report{}
	for _, doc := range docs {
		name := strings.TrimPrefix(doc.Name, reportPrefix)
		var r Report
		if json.Unmarshal(doc.Data[reportField], &r) == nil && r.Node == name {
			out[name] = &r
		}
	}
	return out
}

// Identity is the user as whom a node's agent asks the API server.
func Identity(node string) string { return revoked.AgentUser + node }

func reportOf(node string) kube.Document {
	return kube.Document{
		Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: reportPrefix + node, Labels: map[string]string{label: "report"},
	}
}

// readers is the Role that reads what the cluster wants and who is in it.
const readers = "mk:nodes"

// reading names the binding of a node to it.
func reading(node string) string { return readers + ":" + node }

// Grant lets a node's agent read what the cluster wants, and report. The name
// must be one that a node may have.
func (s Reports) Grant(ctx context.Context, node string) error {
	return s.Client.GrantDocument(ctx, reportOf(node), Identity(node), readers, reading(node))
}

// GrantRefs are the objects that Grant makes.
func GrantRefs(node string) []kube.Ref {
	const rbac = "rbac.authorization.k8s.io"
	return []kube.Ref{
		{Version: "v1", Kind: "ConfigMap", Namespace: kube.SystemNamespace, Name: reportPrefix + node},
		{Group: rbac, Version: "v1", Kind: "Role", Namespace: kube.SystemNamespace, Name: Identity(node)},
		{Group: rbac, Version: "v1", Kind: "RoleBinding", Namespace: kube.SystemNamespace, Name: Identity(node)},
		{Group: rbac, Version: "v1", Kind: "RoleBinding", Namespace: kube.SystemNamespace, Name: reading(node)},
	}
}

// Revoke takes the rights and the report away; what is gone is no error.
func (s Reports) Revoke(ctx context.Context, node string) error {
	return s.Client.RevokeDocument(ctx, reportOf(node), Identity(node), reading(node))
}

// Lags are the members that have not applied a generation yet, by name.
func Lags(members []*Member, reports map[string]*Report, generation int) []string {
	var out []string
	for _, m := range members {
		if r := reports[m.Name]; m.State == Joined && (r == nil || r.Generation < generation) {
			out = append(out, m.Name)
		}
	}
	slices.Sort(out)
	return out
}
