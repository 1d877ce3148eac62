package etcd

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a message: a number, or bytes.
type field struct {
	number protowire.Number
	value  uint64
	bytes  []byte
}

// fields reads a message. Fields of kinds that none of those that are read here has are passed over.
func fields(data []byte, see func(field) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("read an answer of etcd: %w", protowire.ParseError(n))
		}
		data = data[n:]
		f := field{number: number}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
			f.number = 0
		}
		if n < 0 {
			return fmt.Errorf("read an answer of etcd: %w", protowire.ParseError(n))
		}
		data = data[n:]
		if f.number == 0 {
			continue
		}
		if err := see(f); err != nil {
			return err
		}
	}
	return nil
}

// each shows the fields of one number.
func each(data []byte, number protowire.Number, see func(field) error) error {
	return fields(data, func(f field) error {
		if f.number != number {
			return nil
		}
		return see(f)
	})
}

// message is a request that is put together. As in proto3, what is empty is left out.
type message []byte

func (m message) number(n protowire.Number, v uint64) message {
	if v == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, n, protowire.VarintType), v)
}

func (m message) flag(n protowire.Number, v bool) message {
	if !v {
		return m
	}
	return m.number(n, 1)
}

func (m message) text(n protowire.Number, v string) message {
	return protowire.AppendString(protowire.AppendTag(m, n, protowire.BytesType), v)
}

// codec hands bytes through: requests are put together, and answers read, in this package.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("%T is no message to etcd", v)
	}
	return m, nil
}

func (codec) Unmarshal(data []byte, v any) error {
	to, ok := v.(*message)
	if !ok {
		return fmt.Errorf("%T takes no answer of etcd", v)
	}
	*to = append(message(nil), data...) // gRPC uses its own again
	return nil
}
