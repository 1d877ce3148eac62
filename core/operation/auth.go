package operation

import (
	"context"
	"fmt"

	"mk8s.io/mk/core/kubeconfig"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
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
