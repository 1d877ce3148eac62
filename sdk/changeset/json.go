package changeset

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxJSON is how large a ChangeSet may be as JSON.
const MaxJSON = 32 << 20

// operationForm is how an operation looks as JSON: its action under a key of
// its own, and the rest beside it.
type operationForm struct {
	MakeFolder       *MakeFolder       `json:"makeFolder,omitempty"`
	WriteFile        *WriteFile        `json:"writeFile,omitempty"`
	MovePath         *MovePath         `json:"movePath,omitempty"`
	RemovePath       *RemovePath       `json:"removePath,omitempty"`
	SetArgument      *SetArgument      `json:"setArgument,omitempty"`
	RemoveArgument   *RemoveArgument   `json:"removeArgument,omitempty"`
	SetLock          *SetLock          `json:"setLock,omitempty"`
	ClearLock        *ClearLock        `json:"clearLock,omitempty"`
	ControlService   *ControlService   `json:"controlService,omitempty"`
	IssueCertificate *IssueCertificate `json:"issueCertificate,omitempty"`
	SetTrust         *SetTrust         `json:"setTrust,omitempty"`
	ChangeMember     *ChangeMember     `json:"changeMember,omitempty"`
	Wait             *Wait             `json:"wait,omitempty"`
	ApplyManifests   *ApplyManifests   `json:"applyManifests,omitempty"`
	DeleteManifests  *DeleteManifests  `json:"deleteManifests,omitempty"`
	ActivatePlugin   *ActivatePlugin   `json:"activatePlugin,omitempty"`
	Scope            Scope             `json:"scope,omitempty"` // left out for this node
	Expects          string            `json:"expects,omitempty"`
	Why              string            `json:"why,omitempty"`
}

// actions lists where an action may stand.
func (f *operationForm) actions() []Action {
	return []Action{f.MakeFolder, f.WriteFile, f.MovePath, f.RemovePath, f.SetArgument, f.RemoveArgument, f.SetLock,
		f.ClearLock, f.ControlService, f.IssueCertificate, f.SetTrust, f.ChangeMember, f.Wait, f.ApplyManifests,
		f.DeleteManifests, f.ActivatePlugin}
}

// MarshalJSON writes the stable, readable form: contents as text where they
// are text, durations as people write them. Secrets are written too; see
// Redacted.
func (c ChangeSet) MarshalJSON() ([]byte, error) {
	ops := c.Operations
	if ops == nil {
		ops = []Operation{}
	}
	return encode(struct {
		Operations []Operation `json:"operations"`
	}{ops})
}

// UnmarshalJSON reads what MarshalJSON wrote. Unknown fields are errors.
func (c *ChangeSet) UnmarshalJSON(b []byte) error {
	if len(b) > MaxJSON {
		return fmt.Errorf("ChangeSet of %d bytes, at most %d are allowed", len(b), MaxJSON)
	}
	var form struct {
		Operations []json.RawMessage `json:"operations"`
	}
	if err := strict(b, &form); err != nil {
		return fmt.Errorf("reading a ChangeSet: %w", err)
	}
	if len(form.Operations) > MaxOperations {
		return fmt.Errorf("%d operations, at most %d are allowed", len(form.Operations), MaxOperations)
	}
	var ops []Operation
	for i, raw := range form.Operations {
		var o Operation
		if err := o.UnmarshalJSON(raw); err != nil {
			return fmt.Errorf("operation %d: %w", i+1, err)
		}
		ops = append(ops, o)
	}
	c.Operations = ops
	return nil
}

// MarshalJSON writes one operation.
func (o Operation) MarshalJSON() ([]byte, error) {
	f := operationForm{Expects: o.Expects, Why: o.Why}
	if o.Scope != ScopeNode {
		f.Scope = o.Scope
	}
	if o.Action == nil || isNil(o.Action) {
		return nil, errors.New("writing an operation without action")
	}
	o.Action.put(&f)
	return encode(f)
}

// UnmarshalJSON reads one operation.
func (o *Operation) UnmarshalJSON(b []byte) error {
	var f operationForm
	if err := strict(b, &f); err != nil {
		return err
	}
	read := Operation{Scope: f.Scope, Expects: f.Expects, Why: f.Why}
	if read.Scope == "" {
		read.Scope = ScopeNode
	}
	for _, a := range f.actions() {
		if isNil(a) {
			continue
		}
		if read.Action != nil {
			return errors.New("has more than one action")
		}
		read.Action = a
	}
	if read.Action == nil {
		return errors.New("has no action")
	}
	*o = read
	return nil
}

// encode writes JSON without escaping what only HTML minds.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// content is bytes that are written as text where they are text, and as an
// object with one field where they are not.
type content []byte

func (c content) MarshalJSON() ([]byte, error) {
	if utf8.Valid(c) {
		return encode(string(c))
	}
	return encode(map[string]string{"base64": base64.StdEncoding.EncodeToString(c)})
}

func (c *content) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*c = content(text)
		return nil
	}
	var form struct {
		Base64 []byte `json:"base64"`
	}
	if err := strict(b, &form); err != nil {
		return fmt.Errorf("reading a content: %w", err)
	}
	*c = form.Base64
	return nil
}

// span is a duration as people write it.
type span time.Duration

func (s span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

func (s *span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	*s = span(d)
	return err
}
