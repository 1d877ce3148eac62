package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"mk8s.io/mk/core/kube"
)

// Owner is who owns the arguments that people want of the cluster: taking one
// back restores what a node had before.
const Owner = "cluster"

// Wanted is what holds in the whole cluster: one object, which every node's
// agent follows. Each change of it counts Generation up.
type Wanted struct {
	Generation int       `json:"generation"`
	At         time.Time `json:"at,omitzero"`
	By         string    `json:"by,omitempty"` // who changed it last: user and node

	Arguments []Argument `json:"arguments,omitempty"`
	Restarts  []Restart  `json:"restarts,omitempty"`
	Renewals  []Renewal  `json:"renewals,omitempty"`

	version string
}

// Argument is an option of a service that is wanted on one node or on all.
type Argument struct {
	Generation int     `json:"generation"`
	Node       string  `json:"node,omitempty"` // empty: every node
	Service    string  `json:"service"`
	Option     string  `json:"option"`
	Owner      string  `json:"owner,omitempty"`
	Value      *string `json:"value,omitempty"`
	Unset      bool    `json:"unset,omitempty"` // it is to be absent
	Secret     bool    `json:"secret,omitempty"`
}

// Same reports whether two wishes are about the same option of the same owner.
func (a Argument) Same(b Argument) bool {
	return a.Service == b.Service && a.Option == b.Option && a.Owner == b.Owner
}

// Restart is a restart that every node, or one, does once.
type Restart struct {
	Generation int       `json:"generation"`
	Node       string    `json:"node,omitempty"`
	Services   []string  `json:"services,omitempty"` // none: all
	At         time.Time `json:"at"`
}

// Renewal is a renewal of certificates that every node, or one, does once.
type Renewal struct {
	Generation int      `json:"generation"`
	Node       string   `json:"node,omitempty"`
	Profiles   []string `json:"profiles,omitempty"` // none: all
}

// keptOnce is how many restarts and renewals are remembered: a node that was
// down for more of them does the newest only.
const keptOnce = 20

// For is the part of one node: its own wishes go before those for all.
func (w *Wanted) For(name string) []Argument {
	var out []Argument
	for _, a := range w.Arguments {
		if a.Node != "" && a.Node != name {
			continue
		}
		i := slices.IndexFunc(out, a.Same)
		switch {
		case i < 0:
			out = append(out, a)
		case a.Node != "":
			out[i] = a
		}
	}
	return out
}

// SetArgument makes an option wanted. The generation is that of the next Put.
func (w *Wanted) SetArgument(a Argument) {
	a.Generation = w.Generation + 1
	i := slices.IndexFunc(w.Arguments, func(b Argument) bool { return a.Node == b.Node && a.Same(b) })
	if i >= 0 {
		w.Arguments[i] = a
		return
	}
	w.Arguments = append(w.Arguments, a)
}

// DropArgument takes a wish back and reports whether there was one. Wishes for
// single nodes stay where it is taken back for all.
func (w *Wanted) DropArgument(a Argument) bool {
	had := len(w.Arguments)
	w.Arguments = slices.DeleteFunc(w.Arguments, func(b Argument) bool { return a.Node == b.Node && a.Same(b) })
	return len(w.Arguments) < had
}

// AddRestart has services restarted once.
func (w *Wanted) AddRestart(r Restart) {
	r.Generation = w.Generation + 1
	w.Restarts = append(w.Restarts, r)
	w.Restarts = w.Restarts[max(0, len(w.Restarts)-keptOnce):]
}

// AddRenewal has certificates renewed once.
func (w *Wanted) AddRenewal(r Renewal) {
	r.Generation = w.Generation + 1
	w.Renewals = append(w.Renewals, r)
	w.Renewals = w.Renewals[max(0, len(w.Renewals)-keptOnce):]
}

const (
	// WantedName is the object.
	WantedName  = "wanted"
	wantedField = "wanted"
	// maxConflicts is how often a write is tried again because someone else
	// wrote first.
	maxConflicts = 10
)

// Wishes reads and writes what the cluster wants.
type Wishes struct{ Client *kube.Client }

// Get is what the cluster wants; without an object it has generation 0.
func (s Wishes) Get(ctx context.Context) (*Wanted, error) {
	doc, err := s.Client.ReadDocument(ctx, kube.SecretDocument, kube.SystemNamespace, WantedName)
	if kube.NotFound(err) {
		return &Wanted{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseWanted(doc)
}

func parseWanted(doc kube.Document) (*Wanted, error) {
	w := &Wanted{version: doc.Version}
	if err := json.Unmarshal(doc.Data[wantedField], w); err != nil {
		return nil, fmt.Errorf("read what the cluster wants: %w", err)
	}
	return w, nil
}

// Watch calls see with what the cluster wants, and again after each change,
// until ctx ends, which is the error.
func (s Wishes) Watch(ctx context.Context, see func(*Wanted, error), trouble func(error)) error {
	return s.Client.WatchDocument(ctx, kube.SecretDocument, kube.SystemNamespace, WantedName, func(doc kube.Document, exists bool) {
		if exists {
			see(parseWanted(doc))
		}
	}, trouble)
}

// Change reads what is wanted, has it changed and writes it with the next
// generation, again where someone else wrote meanwhile. Nothing is written on
// an error of change.
func (s Wishes) Change(ctx context.Context, at time.Time, by string, change func(*Wanted) error) (*Wanted, error) {
	for range maxConflicts {
		w, err := s.Get(ctx)
		if err != nil {
			return nil, err
		}
		if err := change(w); err != nil {
			return nil, err
		}
		w.Generation, w.At, w.By = w.Generation+1, at.UTC(), by
		data, err := json.Marshal(w)
		if err != nil {
			return nil, fmt.Errorf("write what the cluster wants: %w", err)
		}
		_, err = s.Client.WriteDocument(ctx, kube.Document{
			Kind: kube.SecretDocument, Namespace: kube.SystemNamespace, Name: WantedName,
			Data: map[string][]byte{wantedField: data}, Version: w.version,
		})
		if err == nil || !kube.Conflict(err) {
			return w, err
		}
	}
	return nil, errors.New("what the cluster wants is written by someone else all the time")
}
