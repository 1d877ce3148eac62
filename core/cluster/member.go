// Package cluster keeps what nodes know of each other: a record for every
// node, in the namespace mk-system, written with its resource version.
//
// Guaranteed: a record is written only over the one that was read. It holds no
// secret. Not guaranteed: that a node is alive because its record is there.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/sdk/changeset"
)

// State is where a node stands.
type State string

// States.
const (
	Joining State = "joining" // leased: it goes when Until has passed
	Joined  State = "joined"
)

// Member is the record of one node.
type Member struct {
	Name      string            `json:"name"`
	ID        string            `json:"id"` // of its node.json
	Role      string            `json:"role"`
	Address   string            `json:"address"`
	Addresses []string          `json:"addresses,omitempty"`
	AgentPort int               `json:"agentPort"`
	State     State             `json:"state"`
	Versions  map[string]string `json:"versions,omitempty"`
	Joined    time.Time         `json:"joined,omitzero"`
	Seen      time.Time         `json:"seen,omitzero"`
	Labels    map[string]string `json:"labels,omitempty"`
	Taints    []string          `json:"taints,omitempty"`

	// Keys are the fingerprints of the agent's keys that were certified for
	// this node by another; empty on a node that certifies its own.
	Keys []string `json:"keys,omitempty"`

	// NoVote says that the node holds no part of the datastore.
	NoVote bool `json:"noVote,omitempty"`

	// Token is the id of the token that the node joined with.
	Token string `json:"token,omitempty"`

	// Renewal is the last operation in which its certificates, all ended, were
	// made anew with a token.
	Renewal string `json:"renewal,omitempty"`

	// Of a join under way:
	Operation   string               `json:"operation,omitempty"`
	Key         string               `json:"key,omitempty"` // fingerprint of the joiner's key; stays
	Reservation string               `json:"reservation,omitempty"`
	Server      string               `json:"server,omitempty"` // the node that serves it
	Until       time.Time            `json:"until,omitzero"`
	TakeBack    *changeset.ChangeSet `json:"takeBack,omitempty"`
	// Forward says that the joiner votes: from there it only goes forward, and
	// nobody takes the join back but an operator.
	Forward bool `json:"forward,omitempty"`
	// Guest is set for a node that speaks MicroK8s' protocol, not mk's.
	Guest *Guest `json:"guest,omitempty"`

	version string
}

// Guest is what a node of MicroK8s has here.
type Guest struct {
	// Tokens are the IDs of those with which it asks for certificates.
	Tokens []string `json:"tokens,omitempty"`
	// Signed are the profiles that were certified for it.
	Signed []string `json:"signed,omitempty"`
}

// Agent is where the node's agent listens.
func (m *Member) Agent() string { return joinHostPort(m.Address, m.AgentPort) }

// Live reports whether the node is a member, or a join that has not ended.
func (m *Member) Live(now time.Time) bool {
	return m.State == Joined || m.Forward || now.Before(m.Until)
}

const (
	label    = "mk8s.io/record"
	selector = label + "=node"
	prefix   = "node."
	field    = "record"
)

// ErrChanged says that someone else wrote the record meanwhile.
var ErrChanged = errors.New("the node's record was changed by someone else")

// documents is where the records are kept.
type documents interface {
	ReadDocument(ctx context.Context, kind kube.DocumentKind, namespace, name string) (kube.Document, error)
	ListDocuments(ctx context.Context, kind kube.DocumentKind, namespace, selector string) ([]kube.Document, error)
	WriteDocument(ctx context.Context, doc kube.Document) (kube.Document, error)
	DeleteDocument(ctx context.Context, doc kube.Document) error
}

// Members reads and writes the records.
type Members struct {
	Client *kube.Client

	docs documents // nil for Client
}

func (s Members) documents() documents {
	if s.docs != nil {
		return s.docs
	}
	return s.Client
}

// Get is the record of a node, or nil where there is none.
func (s Members) Get(ctx context.Context, name string) (*Member, error) {
	doc, err := s.documents().ReadDocument(ctx, kube.PlainDocument, kube.SystemNamespace, prefix+name)
	if kube.NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parse(doc)
}

// List is every record, by name.
func (s Members) List(ctx context.Context) ([]*Member, error) {
	docs, err := s.documents().ListDocuments(ctx, kube.PlainDocument, kube.SystemNamespace, selector)
	if err != nil {
		return nil, err
	}
	out := make([]*Member, 0, len(docs))
	for _, doc := range docs {
		m, err := parse(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func parse(doc kube.Document) (*Member, error) {
	m := &Member{version: doc.Version}
	if err := json.Unmarshal(doc.Data[field], m); err != nil {
		return nil, fmt.Errorf("read the record of node %s: %w", strings.TrimPrefix(doc.Name, prefix), err)
	}
	if m.Name != strings.TrimPrefix(doc.Name, prefix) {
		return nil, fmt.Errorf("the record %s says that it is of node %q", doc.Name, m.Name)
	}
	return m, nil
}

// Put writes a record over the one that was read, or as a new one.
func (s Members) Put(ctx context.Context, m *Member) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write the record of node %s: %w", m.Name, err)
	}
	doc, err := s.documents().WriteDocument(ctx, kube.Document{
		Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: prefix + m.Name,
		Labels: map[string]string{label: "node"}, Data: map[string][]byte{field: data}, Version: m.version,
	})
	if kube.Conflict(err) || m.version != "" && kube.NotFound(err) {
		return fmt.Errorf("node %s: %w", m.Name, ErrChanged)
	}
	if err != nil {
		return err
	}
	m.version = doc.Version
	return nil
}

// Delete removes a record that has not changed since it was read; one that is
// gone is no error.
func (s Members) Delete(ctx context.Context, m *Member) error {
	err := s.documents().DeleteDocument(ctx, kube.Document{
		Kind: kube.PlainDocument, Namespace: kube.SystemNamespace, Name: prefix + m.Name, Version: m.version,
	})
	if kube.Conflict(err) {
		return fmt.Errorf("node %s: %w", m.Name, ErrChanged)
	}
	return err
}

func joinHostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
