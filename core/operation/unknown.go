package operation

import (
	"fmt"
	"strings"

	"mk8s.io/mk/sdk/plugin"
)

// UnknownError says that a name is none of those that there are: a service, an
// addon, a certificate, a node. Nothing was changed.
type UnknownError struct {
	Reason plugin.Reason
	What   string
	Name   string
	Known  []string // all that there are; none where nobody could be asked
}

// Error names what there is.
func (e *UnknownError) Error() string {
	text := fmt.Sprintf("there is no %s %.80q", e.What, e.Name)
	if len(e.Known) > 0 {
		text += ": " + strings.Join(e.Known, ", ")
	}
	return text
}

// Reasons of names that are not known.
const (
	ServiceUnknown     plugin.Reason = "SERVICE_UNKNOWN"
	CertificateUnknown plugin.Reason = "CERTIFICATE_UNKNOWN"
	NodeUnknown        plugin.Reason = "NODE_UNKNOWN"
	ChangeUnknown      plugin.Reason = "CHANGE_UNKNOWN"
)
