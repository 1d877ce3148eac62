package operation

import (
	"context"
	"encoding/json"
	"fmt"

	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

const knownTokens = "credentials/known_tokens.csv"

// addTokens makes the five kubeconfigs, and the file that the API server reads,
// from the static credentials that the tokens plugin answers.
func (n *Node) addTokens(ctx context.Context, r *Run, add func(changeset.Action)) error {
	p, who, err := n.Plugins.Tokens(ctx)
	if err != nil {
		return err
	}
	files := kubeconfig.Files()
	wanted := make([]tokens.Credential, len(files))
	for i, f := range files {
		wanted[i] = tokens.Credential{User: f.LoginFor(n.Record.Name), UID: f.UID, Groups: f.Groups}
	}
	got, err := p.Static(ctx, r.Call("static"), wanted)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if len(got) != len(wanted) {
		return fmt.Errorf("%s answered %d credentials to %d users", who, len(got), len(wanted))
	}
	a, err := n.Issuer.Authority(ctx, certs.Kubernetes)
	if err != nil {
		return err
	}
	lines := make([]kubeconfig.Token, len(got))
	for i, c := range got {
		lines[i] = kubeconfig.Token{Token: c.Token, User: wanted[i].User, UID: wanted[i].UID, Groups: wanted[i].Groups}
		data, err := kubeconfig.New(kubeconfig.Options{
			Server: kubeconfig.ServerURL("127.0.0.1", uint16(n.Record.Network.APIPort)), //nolint:gosec // checked by the record
			CA:     a.ServerBundle, User: files[i].TokenUser, Token: c.Token,
		})
		if err != nil {
			return fmt.Errorf("write %s: %w", files[i].Name, err)
		}
		add(&changeset.WriteFile{Path: "credentials/" + files[i].Name, Content: data, Secret: true})
	}
	csv, err := kubeconfig.FormatTokens(lines)
	if err != nil {
		return err
	}
	add(&changeset.WriteFile{Path: knownTokens, Content: csv, Secret: true})
	return nil
}

// fixed refuses what only the first start of a node decides.
func (n *Node) fixed(o StartOptions) error {
	for _, f := range []struct{ flag, asked, is string }{
		{"--name", o.Name, n.Record.Name}, {"--address", o.Address, n.Record.Address}, {"--cni", o.CNI, n.Record.Network.CNI},
		{"--pod-cidr", o.PodCIDR, n.Record.Network.PodCIDR}, {"--service-cidr", o.ServiceCIDR, n.Record.Network.ServiceCIDR},
	} {
		if f.asked != "" && f.asked != f.is {
			return &plugin.Error{Reason: plugin.BadArgument, Message: fmt.Sprintf("%s is %s since this node's first start: it cannot become %.80s", f.flag, f.is, f.asked),
				Next: "mk start goes on with it as it is; a new node, with nothing of this one: mk reset --all"}
		}
	}
	if o.Auth != "" && n.Record.Role != node.ControlPlane {
		return &plugin.Error{Reason: plugin.BadArgument, Message: "a worker's kubeconfigs hold certificates: --auth is for control-plane nodes",
			Next: "mk start"}
	}
	return nil
}

// switchesAuth reports whether a start has the kubeconfigs authenticate in
// another way than they do.
func (n *Node) switchesAuth(o StartOptions) bool {
	return o.Auth != "" && node.Auth(o.Auth) != n.Record.Auth
}

// switchAuth rewrites the five kubeconfigs, and stops the services: they start
// with what is written now. One that was interrupted is done again.
func (n *Node) switchAuth(ctx context.Context, r *Run, o StartOptions) error {
	var asked StartOptions // of the start that was interrupted, if one was
	if err := json.Unmarshal(r.Record.Params, &asked); err != nil {
		return fmt.Errorf("read change %d: %w", r.Record.Number, err)
	}
	if o.Auth == "" {
		o.Auth = asked.Auth
	}
	if !n.switchesAuth(o) {
		return nil
	}
	return r.Step(ctx, "rewrite the kubeconfigs", func(ctx context.Context) error {
		before := n.Record.Auth
		n.Record.Auth = node.Auth(o.Auth)
		ops, err := n.authFiles(func(add func(changeset.Action)) error { return n.addTokens(ctx, r, add) })
		if err == nil {
			err = r.Apply(ctx, changeset.ChangeSet{Operations: ops})
		}
		if err != nil {
			n.Record.Auth = before
			return err
		}
		if err := n.Root.SaveRecord(n.Record); err != nil {
			return err
		}
		return n.StopServices(ctx)
	})
}

// authFiles are the operations that write the kubeconfigs as the record says.
func (n *Node) authFiles(tokens func(add func(changeset.Action)) error) ([]changeset.Operation, error) {
	var ops []changeset.Operation
	add := func(a changeset.Action) { ops = append(ops, changeset.Operation{Action: a}) }
	const service, option = "kube-apiserver", "token-auth-file"
	if n.Record.Auth == node.Token {
		file := n.Root.Credentials("known_tokens.csv")
		add(&changeset.SetArgument{Service: service, Option: option, Value: &file})
		return ops, tokens(add)
	}
	add(&changeset.RemoveArgument{Service: service, Option: option})
	add(&changeset.RemovePath{Path: knownTokens})
	for _, f := range kubeconfig.Files() {
		add(&changeset.IssueCertificate{Profile: f.Profile})
	}
	return ops, nil
}

// planAuth adds what a start does that switches how kubeconfigs authenticate.
func (n *Node) planAuth(ctx context.Context, p *Plan, o StartOptions) error {
	if err := n.fixed(o); err != nil || !n.switchesAuth(o) {
		return err
	}
	n.Record.Auth = node.Auth(o.Auth)
	ops, err := n.authFiles(n.promiseTokens)
	if err != nil {
		return err
	}
	lines, err := n.Engine.Preview(changeset.ChangeSet{Operations: ops})
	if err != nil {
		return err
	}
	p.Changes = append(p.Changes, lines...)
	p.add("write file", "node.json", "replace", "kubeconfigs hold "+o.Auth, "node.json")
	running, err := (&serviceChanges{n}).Running(ctx)
	if err != nil {
		return err
	}
	for _, s := range n.serviceNames() {
		if running[s] {
			p.add(string(changeset.Restart)+" service", s, "", "", n.managerPaths(s)...)
		}
	}
	return nil
}
