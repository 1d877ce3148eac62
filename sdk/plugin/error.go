package plugin

import (
	"errors"
	"fmt"
)

// Reason is a stable word for why something failed. It survives the wire:
// errors.Is finds it on both sides.
type Reason string

// Error makes a reason an error, so that it can be a target of errors.Is.
func (r Reason) Error() string { return string(r) }

// Reasons that the contracts name. Plugins may use others.
const (
	TokenUnknown     Reason = "TOKEN_UNKNOWN"
	TokenExpired     Reason = "TOKEN_EXPIRED"
	TokenUsed        Reason = "TOKEN_USED"
	TokenReserved    Reason = "TOKEN_RESERVED"
	ReservationEnded Reason = "RESERVATION_ENDED"
	AuthorityUnknown Reason = "AUTHORITY_UNKNOWN"
	AddonUnknown     Reason = "ADDON_UNKNOWN"
	BadArgument      Reason = "BAD_ARGUMENT"
	BadSettings      Reason = "BAD_SETTINGS"
	NotPossible      Reason = "NOT_POSSIBLE"
	Unsupported      Reason = "UNSUPPORTED"
	Unavailable      Reason = "UNAVAILABLE"
	Internal         Reason = "INTERNAL"
)

// Error is an error with a stable reason, and what to do next where the plugin
// knows it.
type Error struct {
	Reason  Reason
	Message string
	Next    string
}

// Error is the message alone: the reason is shown apart.
func (e *Error) Error() string { return e.Message }

// Is makes errors.Is(err, TokenUsed) work.
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Errorf makes an error with a reason.
func Errorf(r Reason, format string, args ...any) error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...)}
}

// ReasonOf finds the reason of an error, or Internal.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	if r, ok := errors.AsType[Reason](err); ok {
		return r
	}
	return Internal
}
