// Package problem is the form in which pluginsdir says that something is not
// possible: what, why and what to do next. It prints nothing.
package problem

import (
	"errors"
	"strings"
)

// ErrRefused marks what was refused for the sake of safety: contents that are
// not what they should be, a missing consent, a contract that is not spoken.
// Commands end with status 3 where errors.Is finds it.
var ErrRefused = errors.New("refused")

// Error is one problem. What is required; it names the plugin and its version.
type Error struct {
	What  string
	Why   string
	Next  string // a command, or a short sentence
	Cause error  // what errors.Is and errors.As find; often ErrRefused
}

// Error is all of it in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.What)
	if e.Why != "" {
		b.WriteString(": " + e.Why)
	}
	if e.Next != "" {
		b.WriteString("; next: " + e.Next)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Refused makes an error that errors.Is(err, ErrRefused) finds.
func Refused(what, why, next string) error {
	return &Error{What: what, Why: why, Next: next, Cause: ErrRefused}
}

// New makes an ordinary one.
func New(what, why, next string) error {
	return &Error{What: what, Why: why, Next: next}
}

// Wrap makes one out of err, whose text becomes the reason; refused adds
// ErrRefused to what errors.Is finds.
func Wrap(err error, what, next string, refused bool) error {
	cause := err
	if refused {
		cause = errors.Join(ErrRefused, err)
	}
	return &Error{What: what, Why: err.Error(), Next: next, Cause: cause}
}
