package wire

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mk8s.io/mk/sdk/plugin"
)

// Domain marks the ErrorInfo of this project.
const Domain = "mk"

const (
	nextKey    = "next"
	maxMessage = 8 << 10
	maxReason  = 64
)

// Status makes an error one that crosses the wire with its reason.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if _, named := errors.AsType[*plugin.Error](err); !named {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return status.Error(codes.DeadlineExceeded, Clean(err.Error()))
		case errors.Is(err, context.Canceled):
			return status.Error(codes.Canceled, Clean(err.Error()))
		}
	}
	reason := plugin.ReasonOf(err)
	info := &errdetails.ErrorInfo{Domain: Domain, Reason: string(reason)}
	if e, ok := errors.AsType[*plugin.Error](err); ok && e.Next != "" {
		info.Metadata = map[string]string{nextKey: Clean(e.Next)}
	}
	s := status.New(code(reason), Clean(err.Error()))
	if with, detailErr := s.WithDetails(info); detailErr == nil {
		s = with
	}
	return s.Err()
}

func code(r plugin.Reason) codes.Code {
	switch r {
	case plugin.TokenUnknown, plugin.AuthorityUnknown, plugin.AddonUnknown:
		return codes.NotFound
	case plugin.TokenExpired, plugin.TokenUsed, plugin.TokenReserved, plugin.ReservationEnded, plugin.NotPossible:
		return codes.FailedPrecondition
	case plugin.BadArgument, plugin.BadSettings:
		return codes.InvalidArgument
	case plugin.Unsupported:
		return codes.Unimplemented
	case plugin.Unavailable:
		return codes.Unavailable
	case plugin.Internal:
		return codes.Internal
	}
	return codes.Unknown
}

// remote is an error that came over the wire: a plugin.Error, the gRPC status
// and, where it was one, the context's error.
type remote struct {
	said    *plugin.Error
	status  *status.Status
	context error
	spoken  bool // the peer itself said it, not the transport
}

func (r *remote) Error() string              { return r.said.Message }
func (r *remote) GRPCStatus() *status.Status { return r.status }

func (r *remote) Unwrap() []error {
	if r.context != nil {
		return []error{r.said, r.context}
	}
	return []error{r.said}
}

// FromStatus makes the error of a call one whose reason errors.Is finds.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	r := &remote{status: s, said: &plugin.Error{Reason: plugin.Internal, Message: Clean(s.Message())}}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			r.spoken = true
			r.said.Reason = toReason(info.GetReason())
			r.said.Next = Clean(info.GetMetadata()[nextKey])
			return r
		}
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		r.said.Reason, r.context = plugin.Unavailable, context.DeadlineExceeded
	case codes.Canceled:
		r.said.Reason, r.context = plugin.Unavailable, context.Canceled
	case codes.Unimplemented:
		r.said.Reason = plugin.Unsupported
	case codes.Unavailable:
		r.said.Reason = plugin.Unavailable
	case codes.InvalidArgument:
		r.said.Reason = plugin.BadArgument
	}
	return r
}

// Lost reports whether a call failed because the peer went away, not because
// it said so. Who notices that first closes the connection under the others.
func Lost(err error) bool {
	const closed = "grpc: the client connection is closing" // gRPC has no other sign
	r, ok := errors.AsType[*remote](err)
	return ok && !r.spoken && (r.status.Code() == codes.Unavailable || r.status.Code() == codes.Canceled && r.status.Message() == closed)
}

// toReason lets through what looks like a reason.
func toReason(s string) plugin.Reason {
	if s == "" || len(s) > maxReason || s[0] < 'A' || s[0] > 'Z' {
		return plugin.Internal
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return plugin.Internal
		}
	}
	return plugin.Reason(s)
}

// Clean bounds a text of the other side and takes out what a terminal would
// obey.
func Clean(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + " …"
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) {
			return r
		}
		return ' '
	}, s)
}
