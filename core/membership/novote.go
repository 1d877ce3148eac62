package membership

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"mk8s.io/mk/core/args"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
)

// apiserver is the args file that names the datastore's servers.
const apiserver = "kube-apiserver"

// observe makes a control-plane node whose API server uses the datastore of
// others. The strategy is not asked: it has nothing to decide.
func (j *join) observe(ctx context.Context) error {
	if len(j.begun.Datastore) == 0 {
		return plugin.Errorf(plugin.NotPossible, "the cluster named no member of its datastore: its mk knows no nodes without a vote")
	}
	for _, s := range j.begun.Datastore {
		if !isServer(s) {
			return plugin.Errorf(plugin.NotPossible, "the cluster named %.100q as a member of its datastore", s)
		}
	}
	ops, err := j.n.OwnFiles(ctx, j.r)
	if err != nil {
		return err
	}
	ops = append(ops, changeset.Operation{Action: &changeset.IssueCertificate{Profile: pki.DatastoreClient}})
	return j.r.Apply(ctx, changeset.ChangeSet{Operations: ops})
}

func isServer(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Port() != "" && u.Path == "" && !strings.ContainsAny(s, ", \t\n")
}

// DatastoreServers are where the voting members of the datastore serve
// clients, sorted.
func (n Node) DatastoreServers(ctx context.Context) ([]string, error) {
	members, err := n.DatastoreMembers(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range members {
		if m.Role != "learner" && isServer(m.ClientAddress) {
			out = append(out, m.ClientAddress)
		}
	}
	slices.Sort(out)
	return out, nil
}

// FollowDatastore keeps the API server of a node without a member of its own
// on the datastore's members, as they come and go. It reports whether they had
// changed.
func (n Node) FollowDatastore(ctx context.Context) (bool, error) {
	if !n.Record.NoVote {
		return false, nil
	}
	now, err := n.DatastoreServers(ctx)
	if err != nil {
		return false, err
	}
	f, err := args.Load(n.Root.Args(apiserver))
	if err != nil {
		return false, err
	}
	have, _ := f.Get("etcd-servers")
	want := strings.Join(now, ",")
	if want == "" || want == have {
		return false, nil
	}
	r, err := n.Journal.Begin(ctx, "follow the datastore", now)
	if err != nil {
		return false, err
	}
	return true, r.End(ctx, r.Step(ctx, "take over its members", func(ctx context.Context) error {
		return r.Apply(ctx, changeset.ChangeSet{Operations: []changeset.Operation{
			{Action: &changeset.SetArgument{Service: apiserver, Option: "etcd-servers", Value: &want}},
			{Action: &changeset.ControlService{Service: defaults.Kubelite, Action: changeset.Restart}},
		}})
	}))
}
