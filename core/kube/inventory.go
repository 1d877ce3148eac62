package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// InventoryLabel names, on each object that mk made, the inventory that owns it.
	InventoryLabel = "mk8s.io/inventory"

	inventoryPrefix    = "mk-inventory-"
	inventoryKindLabel = "mk8s.io/kind"
	inventoryKind      = "inventory"
	inventorySchema    = "1"
	inventorySchemaKey = "schema"
	inventoryObjects   = "objects"
	inventoryBytesMost = 900 << 10
)

// entry is one object that an inventory holds.
type entry struct {
	Ref
	// Adopted objects were there before the inventory applied to them: they are never deleted.
	Adopted bool `json:"adopted,omitempty"`
}

// inventory is the stored list of an owner's objects.
type inventory struct {
	name    string
	doc     Document
	entries []entry
}

var inventoryName = atFirst(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

func checkInventoryName(name string) error {
	if !inventoryName().MatchString(name) {
		return fmt.Errorf("inventory name %q: lower-case letters, digits, dots and dashes, at most 63", name)
	}
	return nil
}

// errMeanwhile says that another one wrote an inventory since it was read.
var errMeanwhile = errors.New("it is being changed by someone else at the same time")

// applyTries is how often an apply is begun when that happens.
const applyTries = 6

// loadInventory gives an empty inventory where none is stored.
func (c *Client) loadInventory(ctx context.Context, name string) (*inventory, error) {
	if err := checkInventoryName(name); err != nil {
		return nil, err
	}
	doc, err := c.ReadDocument(ctx, PlainDocument, SystemNamespace, inventoryPrefix+name)
	if apierrors.IsNotFound(err) {
		return &inventory{name: name, doc: Document{
			Kind: PlainDocument, Namespace: SystemNamespace, Name: inventoryPrefix + name,
			Labels: map[string]string{inventoryKindLabel: inventoryKind},
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := parseInventory(doc.Data)
	if err != nil {
		return nil, fmt.Errorf("inventory %s: %w", name, err)
	}
	return &inventory{name: name, doc: doc, entries: entries}, nil
}

// saveInventory stores the entries, if they differ from what is stored.
func (c *Client) saveInventory(ctx context.Context, inv *inventory, entries []entry) error {
	if inv.doc.Version != "" && slices.Equal(entries, inv.entries) {
		return nil
	}
	raw, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("write inventory %s: %w", inv.name, err)
	}
	if len(raw) > inventoryBytesMost {
		return fmt.Errorf("inventory %s: %d objects are too many to record", inv.name, len(entries))
	}
	doc := inv.doc
	doc.Data = map[string][]byte{inventorySchemaKey: []byte(inventorySchema), inventoryObjects: raw}
	stored, err := c.WriteDocument(ctx, doc)
	if err != nil {
		if Conflict(err) {
			return fmt.Errorf("inventory %s: %w: %w", inv.name, errMeanwhile, err)
		}
		return err
	}
	inv.doc, inv.entries = stored, slices.Clone(entries)
	return nil
}

// parseInventory refuses an entry that could not have been written here: a damaged inventory must not direct deletions.
func parseInventory(data map[string][]byte) ([]entry, error) {
	if schema := string(data[inventorySchemaKey]); schema != inventorySchema {
		return nil, fmt.Errorf("its schema is %q, this mk reads %q", schema, inventorySchema)
	}
	var entries []entry
	if err := json.Unmarshal(data[inventoryObjects], &entries); err != nil {
		return nil, fmt.Errorf("read its objects: %w", err)
	}
	for i, e := range entries {
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
	}
	return entries, nil
}

func checkEntry(e entry) error {
	if !versionPattern().MatchString(e.Version) || !kindPattern().MatchString(e.Kind) {
		return fmt.Errorf("%q is no kind", e.GVK())
	}
	if err := checkName(e.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if strings.ContainsAny(e.Group+e.Namespace, "/% ") || e.Namespace == ".." || e.Group == ".." {
		return fmt.Errorf("group %q or namespace %q is malformed", e.Group, e.Namespace)
	}
	return nil
}

// find gives the entry of an object, in whatever version it was recorded.
func (inv *inventory) find(ref Ref) (entry, bool) {
	i := slices.IndexFunc(inv.entries, func(e entry) bool { return e.identity() == ref.identity() })
	if i < 0 {
		return entry{}, false
	}
	return inv.entries[i], true
}

// union is what must be recorded before anything is applied: all that is there and all that may come to be, so that
// after a crash nothing exists that no inventory holds.
func (inv *inventory) union(next []entry) []entry {
	return append(slices.Clone(next), inv.gone(next)...)
}

// gone are the recorded entries that next does not have.
func (inv *inventory) gone(next []entry) []entry {
	has := map[Ref]bool{}
	for _, e := range next {
		has[e.identity()] = true
	}
	var gone []entry
	for _, e := range inv.entries {
		if !has[e.identity()] {
			gone = append(gone, e)
		}
	}
	return gone
}
