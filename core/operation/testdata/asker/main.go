// Asker is a plugin that asks the host what it is told to: the question's step
// names the callback, and holds what to ask with.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"mk8s.io/mk/sdk"
	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

func main() {
	h, err := sdk.Host()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	d := &deeds{host: h, late: make(chan error, 1)}
	if os.Getenv("KIND") == plugin.KindAddons {
		sdk.Serve(&asAddons{deeds: d})
	}
	sdk.Serve(&asClustering{deeds: d})
}

// asAddons and asClustering are asked nothing of their kind.
type asAddons struct {
	addons.Plugin
	*deeds
}

type asClustering struct {
	clustering.Plugin
	*deeds
}

func description(kind string) (plugin.Description, error) {
	return plugin.Description{Identity: plugin.Identity{Kind: kind, Name: "asker", Version: "1.0.0"},
		Contracts: []string{plugin.Contract(kind)}, Exportable: true}, nil
}

func (*asAddons) Describe(context.Context) (plugin.Description, error) {
	return description(plugin.KindAddons)
}
func (*asAddons) Configure(context.Context, plugin.Configuration) error { return nil }

func (*asClustering) Describe(context.Context) (plugin.Description, error) {
	return description(plugin.KindClustering)
}
func (*asClustering) Configure(context.Context, plugin.Configuration) error { return nil }

// Ask is what the host is asked with.
type Ask struct {
	OperationID string
	Text        string // a path, a name, a token, a line
	Requests    []certs.CertificateRequest
}

type deeds struct {
	host host.Host
	late chan error
}

func (d *deeds) Export(context.Context, plugin.Call, []byte, []byte) (plugin.Sealed, error) {
	return plugin.Sealed{}, nil
}
func (d *deeds) Import(context.Context, plugin.Call, plugin.Sealed, []byte) error { return nil }

// PrepareImport asks the host, and answers its answer.
func (d *deeds) PrepareImport(ctx context.Context, c plugin.Call) ([]byte, error) {
	var a Ask
	if err := json.Unmarshal(c.Step.State, &a); err != nil {
		return nil, err
	}
	out, err := d.ask(ctx, c.Step.Name, a)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

func (d *deeds) ask(ctx context.Context, callback string, a Ask) (any, error) {
	call := plugin.Call{OperationID: a.OperationID}
	switch callback {
	case "Issue":
		return d.host.Issue(ctx, tokens.IssueRequest{Call: call, Purpose: tokens.Join, Role: plugin.RoleWorker, Uses: 1})
	case "Reserve":
		return d.host.Reserve(ctx, tokens.ReserveRequest{Call: call, Token: a.Text, Purpose: tokens.Join,
			Claimant: tokens.Claimant{Name: "w1", Address: "10.0.0.9"}})
	case "Commit":
		return nil, d.host.Commit(ctx, call, a.Text)
	case "Release":
		return nil, d.host.Release(ctx, call, a.Text)
	case "Sign":
		return d.host.Sign(ctx, certs.SignRequest{Call: call, Requests: a.Requests})
	case "Authorities":
		var names []string
		if a.Text != "" {
			names = append(names, a.Text)
		}
		return d.host.Authorities(ctx, names)
	case "Peer":
		return d.host.Peer(ctx, host.PeerRequest{OperationID: a.OperationID, Node: a.Text, Method: "POST", Path: "/x"})
	case "Read":
		return d.host.Read(ctx, a.Text)
	case "Progress":
		return nil, d.host.Progress(ctx, a.OperationID, a.Text)
	case "begin":
		go d.goOn(context.WithoutCancel(ctx), a.OperationID)
		return nil, nil
	case "late":
		return (<-d.late).Error(), nil
	}
	return nil, plugin.Errorf(plugin.Unsupported, "%s", callback)
}

// goOn asks until it is refused.
func (d *deeds) goOn(ctx context.Context, operationID string) {
	for {
		if err := d.host.Progress(ctx, operationID, "still here"); err != nil {
			d.late <- err
			return
		}
	}
}
