package operation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"mk8s.io/mk/core/change"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/pluginhost"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// maxProgress is how many characters of a plugin's line are shown.
const maxProgress = 200

// callbackRule says which kinds of plugins have a callback, and why no other.
type callbackRule struct {
	name  string
	kinds []string
	why   string
}

// callbackRules is the whole table. What it does not name is refused.
func callbackRules() []callbackRule {
	joining := []string{plugin.KindClustering}
	return []callbackRule{
		{"Issue", joining, "only a clustering plugin invites nodes"},
		{"Reserve", joining, "only a clustering plugin lets nodes in"},
		{"Commit", joining, "only a clustering plugin lets nodes in"},
		{"Release", joining, "only a clustering plugin lets nodes in"},
		{"Sign", joining, "only a strategy that connects nodes has keys of its own to certify; others name certificates in a ChangeSet"},
		{"Authorities", []string{plugin.KindClustering, plugin.KindAddons}, "a certs plugin answers it, and tokens need no trust"},
		{"Peer", joining, "only a clustering plugin has routes on other nodes"},
		{"Read", plugin.Kinds(), ""},
		{"Progress", plugin.Kinds(), ""},
	}
}

// callbacks is the host of one started plugin.
type callbacks struct {
	node  *Node
	spec  pluginhost.Spec
	asked *pluginhost.Questions
}

var _ host.Host = callbacks{}

// answers is the host that a plugin of this node may ask.
func (n *Node) answers(s pluginhost.Spec, asked *pluginhost.Questions) host.Host {
	return callbacks{node: n, spec: s, asked: asked}
}

// allow refuses what a plugin of this kind may not ask, and what it asks while
// it is asked nothing.
func (c callbacks) allow(callback string) error {
	rules := callbackRules()
	i := slices.IndexFunc(rules, func(r callbackRule) bool { return r.name == callback })
	switch {
	case i < 0 || !slices.Contains(rules[i].kinds, c.spec.Identity.Kind):
		why := "no plugin may"
		if i >= 0 {
			why = rules[i].why
		}
		return c.refuse(callback, why)
	case !c.asked.Any():
		return c.refuse(callback, "it is asked nothing at the moment")
	}
	return nil
}

// under also refuses what names another operation than the plugin is asked
// under: one join cannot spend the token of another.
func (c callbacks) under(callback, operationID string) error {
	if err := c.allow(callback); err != nil {
		return err
	}
	if !c.asked.Under(operationID) {
		return c.refuse(callback, fmt.Sprintf("it is not asked under the operation %.80q", operationID))
	}
	return nil
}

// changing is under for what changes something: it has an operation.
func (c callbacks) changing(callback string, call plugin.Call) error {
	if call.OperationID == "" {
		return c.refuse(callback, "it names no operation")
	}
	return c.under(callback, call.OperationID)
}

func (c callbacks) refuse(callback, why string) error {
	return plugin.Errorf(plugin.NotPossible, "%s may not ask the host to %s: %s", c.spec.Identity, callback, why)
}

// tokens is the active tokens plugin, for a callback that changes something.
func (c callbacks) tokens(ctx context.Context, callback string, call plugin.Call) (tokens.Plugin, error) {
	if err := c.changing(callback, call); err != nil {
		return nil, err
	}
	p, _, err := c.node.Plugins.Tokens(ctx)
	return p, err
}

// Issue has the active tokens plugin make a token.
func (c callbacks) Issue(ctx context.Context, r tokens.IssueRequest) (tokens.Issued, error) {
	p, err := c.tokens(ctx, "Issue", r.Call)
	if err != nil {
		return tokens.Issued{}, err
	}
	return p.Issue(ctx, r)
}

// Reserve has the active tokens plugin reserve a use of a token.
func (c callbacks) Reserve(ctx context.Context, r tokens.ReserveRequest) (tokens.Reservation, error) {
	p, err := c.tokens(ctx, "Reserve", r.Call)
	if err != nil {
		return tokens.Reservation{}, err
	}
	return p.Reserve(ctx, r)
}

// Commit has it spent.
func (c callbacks) Commit(ctx context.Context, call plugin.Call, reservationID string) error {
	p, err := c.tokens(ctx, "Commit", call)
	if err != nil {
		return err
	}
	return p.Commit(ctx, call, reservationID)
}

// Release has it given back.
func (c callbacks) Release(ctx context.Context, call plugin.Call, reservationID string) error {
	p, err := c.tokens(ctx, "Release", call)
	if err != nil {
		return err
	}
	return p.Release(ctx, call, reservationID)
}

// Sign has certificates of this node signed: the profiles that the grants
// name, and nothing that the policy does not give this node.
func (c callbacks) Sign(ctx context.Context, r certs.SignRequest) ([]certs.SignResult, error) {
	if err := c.changing("Sign", r.Call); err != nil {
		return nil, err
	}
	for _, q := range r.Requests {
		if !slices.ContainsFunc(c.spec.Grants.Certificates, func(g string) bool { return change.Match(g, q.Profile) }) {
			return nil, c.refuse("Sign", fmt.Sprintf("%.80s needs the grant certificates", q.Profile))
		}
	}
	return c.node.Issuer.SignForeign(ctx, r.Call.OperationID, r.Requests)
}

// Authorities says what is trusted; no names mean all.
func (c callbacks) Authorities(ctx context.Context, names []string) ([]certs.Authority, error) {
	if err := c.allow("Authorities"); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = certs.Names()
	}
	var out []certs.Authority
	for _, name := range names {
		if !slices.Contains(certs.Names(), name) {
			return nil, plugin.Errorf(plugin.AuthorityUnknown, "there is no authority %.80q: %s", name, strings.Join(certs.Names(), ", "))
		}
		p, _, err := c.node.Plugins.Certs(ctx, name)
		if err != nil {
			return nil, err
		}
		list, err := p.Authorities(ctx, []string{name})
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			a.KeyLocation = "" // for people
			out = append(out, a)
		}
	}
	return out, nil
}

// Peer sends a request to a node of this cluster or join.
func (c callbacks) Peer(ctx context.Context, r host.PeerRequest) (host.PeerResponse, error) {
	if err := c.changing("Peer", plugin.Call{OperationID: r.OperationID}); err != nil {
		return host.PeerResponse{}, err
	}
	if c.node.Peer == nil {
		return host.PeerResponse{}, plugin.Errorf(plugin.NotPossible, "this node has joined no other: there is no node to ask")
	}
	return c.node.Peer(ctx, c.spec.Identity, r)
}

// Read answers a file that the grants name.
func (c callbacks) Read(_ context.Context, name string) (host.File, error) {
	if err := c.allow("Read"); err != nil {
		return host.File{}, err
	}
	switch {
	case !filepath.IsLocal(name) || path.Clean(name) != name:
		return host.File{}, plugin.Errorf(plugin.BadArgument, "%.200q is no path below the root folder", name)
	case !slices.ContainsFunc(c.spec.Grants.FilesRead, func(g string) bool { return change.Match(g, name) }):
		return host.File{}, c.refuse("Read", fmt.Sprintf("%.200s needs the grant filesRead", name))
	}
	data, err := c.node.readFor(name)
	if errors.Is(err, fs.ErrNotExist) {
		return host.File{Absent: true, Digest: node.Absent}, nil
	}
	if err != nil {
		return host.File{}, err
	}
	digest, err := c.node.Root.Digest(name)
	if err != nil {
		return host.File{}, err
	}
	if !strings.HasPrefix(digest, "link:") {
		digest = changeset.DigestOf(data) // of what is answered, whatever came between
	}
	return host.File{Content: data, Digest: digest}, nil
}

// Progress shows a line to whoever waits.
func (c callbacks) Progress(_ context.Context, operationID, message string) error {
	if err := c.under("Progress", operationID); err != nil {
		return err
	}
	c.node.detail(c.spec.Identity.String() + ": " + oneLine(message))
	return nil
}

// oneLine takes out what a terminal would obey, and what is too much.
func oneLine(s string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if runes := []rune(strings.TrimSpace(clean)); len(runes) > maxProgress {
		return string(runes[:maxProgress]) + "…"
	}
	return strings.TrimSpace(clean)
}
