package changeset

import "time"

// The types below give contents and durations their readable form; the fields
// are those of the action, in its order.

type writeFileForm struct {
	Path    string  `json:"path"`
	Content content `json:"content"`
	Mode    uint32  `json:"mode,omitempty"`
	Secret  bool    `json:"secret,omitempty"`
}

// MarshalJSON writes the readable form.
func (a WriteFile) MarshalJSON() ([]byte, error) {
	return encode(writeFileForm{a.Path, a.Content, a.Mode, a.Secret})
}

// UnmarshalJSON reads it.
func (a *WriteFile) UnmarshalJSON(b []byte) error {
	var f writeFileForm
	err := strict(b, &f)
	*a = WriteFile{f.Path, f.Content, f.Mode, f.Secret}
	return err
}

type issueForm struct {
	Profile     string   `json:"profile"`
	DNSNames    []string `json:"dnsNames,omitempty"`
	IPAddresses []string `json:"ipAddresses,omitempty"`
	Life        span     `json:"life,omitzero"`
	Peer        string   `json:"peer,omitempty"`
}

// MarshalJSON writes the readable form.
func (a IssueCertificate) MarshalJSON() ([]byte, error) {
	return encode(issueForm{a.Profile, a.DNSNames, a.IPAddresses, span(a.Life), a.Peer})
}

// UnmarshalJSON reads it.
func (a *IssueCertificate) UnmarshalJSON(b []byte) error {
	var f issueForm
	err := strict(b, &f)
	*a = IssueCertificate{f.Profile, f.DNSNames, f.IPAddresses, time.Duration(f.Life), f.Peer}
	return err
}

type trustForm struct {
	Authority string  `json:"authority"`
	Bundle    content `json:"bundle"`
	Clients   content `json:"clientBundle,omitempty"`
}

// MarshalJSON writes the readable form.
func (a SetTrust) MarshalJSON() ([]byte, error) {
	return encode(trustForm{a.Authority, a.Bundle, a.ClientBundle})
}

// UnmarshalJSON reads it.
func (a *SetTrust) UnmarshalJSON(b []byte) error {
	var f trustForm
	err := strict(b, &f)
	*a = SetTrust{f.Authority, f.Bundle, f.Clients}
	return err
}

type waitForm struct {
	Timeout        span             `json:"timeout,omitzero"`
	Service        string           `json:"service,omitempty"`
	Address        string           `json:"address,omitempty"`
	Node           string           `json:"node,omitempty"`
	Object         *ObjectReference `json:"object,omitempty"`
	MemberCaughtUp string           `json:"memberCaughtUp,omitempty"`
	MemberVoting   string           `json:"memberVoting,omitempty"`
}

// MarshalJSON writes the readable form.
func (a Wait) MarshalJSON() ([]byte, error) {
	return encode(waitForm{span(a.Timeout), a.Service, a.Address, a.Node, a.Object, a.MemberCaughtUp, a.MemberVoting})
}

// UnmarshalJSON reads it.
func (a *Wait) UnmarshalJSON(b []byte) error {
	var f waitForm
	err := strict(b, &f)
	*a = Wait{time.Duration(f.Timeout), f.Service, f.Address, f.Node, f.Object, f.MemberCaughtUp, f.MemberVoting}
	return err
}

type manifestsForm struct {
	Inventory string  `json:"inventory"`
	Manifests content `json:"manifests"`
	Secret    bool    `json:"secret,omitempty"`
}

// MarshalJSON writes the readable form.
func (a ApplyManifests) MarshalJSON() ([]byte, error) {
	return encode(manifestsForm{a.Inventory, a.Manifests, a.Secret})
}

// UnmarshalJSON reads it.
func (a *ApplyManifests) UnmarshalJSON(b []byte) error {
	var f manifestsForm
	err := strict(b, &f)
	*a = ApplyManifests{f.Inventory, f.Manifests, f.Secret}
	return err
}

func (a *MakeFolder) put(f *operationForm)       { f.MakeFolder = a }
func (a *WriteFile) put(f *operationForm)        { f.WriteFile = a }
func (a *MovePath) put(f *operationForm)         { f.MovePath = a }
func (a *RemovePath) put(f *operationForm)       { f.RemovePath = a }
func (a *SetArgument) put(f *operationForm)      { f.SetArgument = a }
func (a *RemoveArgument) put(f *operationForm)   { f.RemoveArgument = a }
func (a *SetLock) put(f *operationForm)          { f.SetLock = a }
func (a *ClearLock) put(f *operationForm)        { f.ClearLock = a }
func (a *ControlService) put(f *operationForm)   { f.ControlService = a }
func (a *IssueCertificate) put(f *operationForm) { f.IssueCertificate = a }
func (a *SetTrust) put(f *operationForm)         { f.SetTrust = a }
func (a *ChangeMember) put(f *operationForm)     { f.ChangeMember = a }
func (a *Wait) put(f *operationForm)             { f.Wait = a }
func (a *ApplyManifests) put(f *operationForm)   { f.ApplyManifests = a }
func (a *DeleteManifests) put(f *operationForm)  { f.DeleteManifests = a }
func (a *ActivatePlugin) put(f *operationForm)   { f.ActivatePlugin = a }
