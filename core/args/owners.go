package args

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	ownersSchema = 1
	maxOwners    = 4 << 20
)

// Owners records which options were set by whom (an addon) and what each one
// found, for all services of a node. It is stored beside the files, not in
// them. The zero value has none.
type Owners struct {
	services map[string]map[string][]layer
}

// layer is what someone made of an option; the lowest is what the first owner
// found, the highest what the file has. People, who set no owner, are "".
type layer struct {
	Owner string   `json:"owner,omitempty"`
	Lines []string `json:"lines"` // none: the option is absent
}

type ownersDocument struct {
	Schema   int                           `json:"schema"`
	Services map[string]map[string][]layer `json:"services"`
}

// ErrNoOwners is returned by the methods that need Own to be called first.
var ErrNoOwners = errors.New("the file has no record of owners")

// Own makes f record owners in o, under a service's name. Whoever changes
// options with an owner stores both the file and o.
func (f *File) Own(o *Owners, service string) error {
	if !ValidService(service) {
		return fmt.Errorf("%.60q is not a service with arguments", service)
	}
	f.owners, f.service = o, service
	return nil
}

// SetOwned sets an option for an owner and records what it found. Where
// another owner has set it since, that one's value stays in the file and this
// one comes back when the other goes.
func (f *File) SetOwned(owner, name, value string) error {
	return f.SetAllOwned(owner, name, []string{value})
}

// SetAllOwned is SetOwned for a repeated option; without values the owner
// wants the option absent.
func (f *File) SetAllOwned(owner, name string, values []string) error {
	want, err := valueLines(name, values)
	if err != nil {
		return err
	}
	return f.setOwned(owner, name, want)
}

// SetFlagOwned is SetOwned for an option without a value.
func (f *File) SetFlagOwned(owner, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return f.setOwned(owner, name, []line{{raw: "--" + name, name: name}})
}

func (f *File) setOwned(owner, name string, want []line) error {
	if f.owners == nil {
		return ErrNoOwners
	}
	if err := checkOwner(owner); err != nil {
		return err
	}
	layers := f.noticed(name)
	if len(layers) == 0 {
		layers = []layer{{Lines: rawLines(f.linesOf(name))}}
	}
	at := slices.IndexFunc(layers, func(l layer) bool { return l.Owner == owner })
	top := len(layers) - 1
	if at >= 0 && at < top && layers[top].Owner != "" {
		layers[at].Lines = rawLines(want)
		f.owners.set(f.service, name, layers)
		return nil
	}
	if err := f.put(name, want); err != nil {
		return err
	}
	if at >= 0 {
		layers = slices.Delete(layers, at, at+1)
	}
	f.owners.set(f.service, name, append(layers, layer{Owner: owner, Lines: rawLines(want)}))
	return nil
}

// UnsetOwned takes back what an owner made of an option: what it found comes
// back, unless someone has changed the option since, whose change stays. False
// if the owner had not set it.
func (f *File) UnsetOwned(owner, name string) (bool, error) {
	if f.owners == nil {
		return false, ErrNoOwners
	}
	if err := errors.Join(checkOwner(owner), CheckName(name)); err != nil {
		return false, err
	}
	layers := f.noticed(name)
	at := slices.IndexFunc(layers, func(l layer) bool { return l.Owner == owner })
	if at < 0 {
		return false, nil
	}
	top := at == len(layers)-1
	layers = slices.Delete(layers, at, at+1)
	if top {
		back, err := parseLines(name, layers[len(layers)-1].Lines)
		if err == nil {
			err = f.put(name, back)
		}
		if err != nil {
			return false, err
		}
	}
	if !slices.ContainsFunc(layers, func(l layer) bool { return l.Owner != "" }) {
		layers = nil
	}
	f.owners.set(f.service, name, layers)
	return true, nil
}

// noticed is a copy of an option's layers, with one on top for what a person
// has made of it since the last one.
func (f *File) noticed(name string) []layer {
	layers := slices.Clone(f.owners.services[f.service][name])
	if len(layers) == 0 {
		return nil
	}
	now := f.linesOf(name)
	last, err := parseLines(name, layers[len(layers)-1].Lines)
	if err != nil || !sameSettings(now, last) {
		layers = append(layers, layer{Lines: rawLines(now)})
	}
	return layers
}

func (o *Owners) set(service, name string, layers []layer) {
	if len(layers) == 0 {
		delete(o.services[service], name)
		if len(o.services[service]) == 0 {
			delete(o.services, service)
		}
		return
	}
	// Of what people made of it one after the other, only the last can come back.
	kept := layers[:0:0]
	for i, l := range layers {
		if l.Owner != "" || i == len(layers)-1 || layers[i+1].Owner != "" {
			kept = append(kept, l)
		}
	}
	layers = kept
	if o.services == nil {
		o.services = map[string]map[string][]layer{}
	}
	if o.services[service] == nil {
		o.services[service] = map[string][]layer{}
	}
	o.services[service][name] = layers
}

// Marshal is the document to store; the same record gives the same bytes.
func (o *Owners) Marshal() ([]byte, error) {
	doc := ownersDocument{Schema: ownersSchema, Services: o.services}
	if doc.Services == nil {
		doc.Services = map[string]map[string][]layer{}
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the owners of arguments: %w", err)
	}
	return append(data, '\n'), nil
}

// Unmarshal reads what Marshal wrote; empty data is a record without owners.
// On an error o is as it was.
func (o *Owners) Unmarshal(data []byte) error {
	if len(data) == 0 {
		o.services = nil
		return nil
	}
	doc, err := decodeOwners(data)
	if err != nil {
		return fmt.Errorf("read the owners of arguments: %w", err)
	}
	o.services = doc.Services
	return nil
}

func decodeOwners(data []byte) (*ownersDocument, error) {
	if len(data) > maxOwners {
		return nil, fmt.Errorf("more than %d MiB", maxOwners>>20)
	}
	var doc ownersDocument
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the end")
	}
	if doc.Schema != ownersSchema {
		return nil, fmt.Errorf("schema %d: this mk reads %d", doc.Schema, ownersSchema)
	}
	for _, service := range slices.Sorted(maps.Keys(doc.Services)) {
		if !ValidService(service) {
			return nil, fmt.Errorf("%.60q is not a service with arguments", service)
		}
		for _, name := range slices.Sorted(maps.Keys(doc.Services[service])) {
			if err := checkLayers(name, doc.Services[service][name]); err != nil {
				return nil, fmt.Errorf("%s --%s: %w", service, name, err)
			}
		}
	}
	return &doc, nil
}

func checkLayers(name string, layers []layer) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(layers) < 2 || layers[0].Owner != "" {
		return errors.New("what the first owner found is missing")
	}
	for i, l := range layers {
		if l.Owner != "" {
			if err := checkOwner(l.Owner); err != nil {
				return err
			}
			if slices.ContainsFunc(layers[:i], func(x layer) bool { return x.Owner == l.Owner }) {
				return fmt.Errorf("the owner %s a second time", l.Owner)
			}
		}
		if _, err := parseLines(name, l.Lines); err != nil {
			return err
		}
	}
	return nil
}

func checkOwner(owner string) error {
	bad := strings.ContainsFunc(owner, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
	if owner == "" || len(owner) > 200 || bad {
		return fmt.Errorf("%.60q is not an owner's name", owner)
	}
	return nil
}

func rawLines(lines []line) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, l.raw)
	}
	return out
}

func parseLines(name string, raw []string) ([]line, error) {
	var out []line
	for _, r := range raw {
		l, err := parseLine(r)
		if err == nil && (l.name != name || strings.ContainsAny(r, "\r\n")) {
			err = fmt.Errorf("%.60q is not a line of this option", r)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}
