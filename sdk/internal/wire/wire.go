// Package wire turns the contracts' Go types into protobuf messages and back.
// Decoding treats the peer as hostile: what the contract does not allow is an
// error that names the field, never a panic. It does not judge what an
// operation asks for; changeset.ChangeSet.Validate does.
package wire

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// MaxBody bounds the HTTP bodies of Serve and Peer.
const MaxBody = 64 << 10

// each converts a list; an empty one stays nil.
func each[A, B any](in []A, f func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// eachFrom converts a list whose elements may be wrong.
func eachFrom[A, B any](what string, in []A, f func(A) (B, error)) ([]B, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		b, err := f(v)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i+1, err)
		}
		out[i] = b
	}
	return out, nil
}

func fromTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// toTime reads an unset time as the zero one.
func toTime(what string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", what, err)
	}
	return t.AsTime(), nil
}

func fromDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// toDuration reads an unset duration as 0. No duration of the contracts is
// negative, or longer than Go's type holds.
func toDuration(what string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	v := d.AsDuration()
	if v < 0 {
		return 0, fmt.Errorf("%s: %v is negative", what, v)
	}
	if v == 1<<63-1 {
		return 0, fmt.Errorf("%s: longer than 292 years", what)
	}
	return v, nil
}

// toStatus reads an HTTP status.
func toStatus(s uint32) (int, error) {
	if s < 100 || s > 599 {
		return 0, fmt.Errorf("status %d is no HTTP status", s)
	}
	return int(s), nil
}

func checkBody(b []byte) error {
	if len(b) > MaxBody {
		return fmt.Errorf("body of %d bytes, at most %d are allowed", len(b), MaxBody)
	}
	return nil
}

// Window is how many bytes one side may send before the other has taken them.
// It stays the same: to find out what it should be, gRPC sends a ping after
// every message.
const Window = 1 << 20
