package etcd

import (
	"context"
	"strings"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
)

// errGrow says what this version has not, by a reason that the core knows.
func errGrow(what string) error {
	return plugin.Errorf(plugin.Unsupported, "%s: this version of clustering/etcd keeps one control-plane node", what)
}

// Join is refused: the datastore has one member.
func (p *Etcd) Join(context.Context, clustering.JoinRequest) (plugin.Answer, error) {
	return plugin.Answer{}, errGrow("join as a control-plane node")
}

// Leave is refused: a single member has nobody to leave.
func (p *Etcd) Leave(context.Context, clustering.LeaveRequest) (plugin.Answer, error) {
	return plugin.Answer{}, errGrow("leave")
}

// Remove is refused: there is no other member.
func (p *Etcd) Remove(context.Context, clustering.RemoveRequest) (plugin.Answer, error) {
	return plugin.Answer{}, errGrow("remove a control-plane node")
}

// Abort is refused: no question of this version does anything elsewhere that
// would have to be taken back.
func (p *Etcd) Abort(_ context.Context, r clustering.AbortRequest) (plugin.Answer, error) {
	return plugin.Answer{}, plugin.Errorf(plugin.Unsupported, "%.40q does nothing that could be taken back", r.Question)
}

// Serve knows no route, and Describe names none.
func (p *Etcd) Serve(_ context.Context, r clustering.ServeRequest) (clustering.Served, error) {
	return clustering.Served{}, plugin.Errorf(plugin.Unsupported, "there is no route %.10q %.100q", r.Method, strings.ToValidUTF8(r.Path, "?"))
}
