package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

const maxRecord = 1 << 20

// ParseRecord reads the content of a node.json and checks it. Unknown and
// repeated fields are refused. Its error begins with the line's number.
func ParseRecord(data []byte) (*Record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("1: it is larger than %d MiB", maxRecord>>20)
	}
	var version struct {
		Schema int `json:"schema"`
	}
	// The schema decides first: a newer file has fields that we do not know.
	if json.Unmarshal(data, &version) == nil {
		switch {
		case version.Schema > RecordSchema:
			return nil, fmt.Errorf("%d: schema %d: %w (this mk reads up to %d); upgrade mk",
				lineOf(data, `"schema"`), version.Schema, ErrNewerSchema, RecordSchema)
		case version.Schema < max(1, RecordSchema-1):
			return nil, fmt.Errorf("%d: schema %d: this mk reads %d to %d",
				lineOf(data, `"schema"`), version.Schema, max(1, RecordSchema-1), RecordSchema)
		}
	}
	if err := checkFields(data); err != nil {
		return nil, err
	}
	var rec Record
	if err := json.Unmarshal(data, &rec); err != nil {
		at := int64(len(data))
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = e.Offset
		}
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			at = e.Offset
		}
		return nil, fmt.Errorf("%d: %w", lineAt(data, at), err)
	}
	if err := rec.Check(); err != nil {
		var f *FieldError
		line := 1
		if errors.As(err, &f) {
			line = lineOf(data, `"`+f.Field+`"`)
		}
		return nil, fmt.Errorf("%d: %w", line, err)
	}
	return &rec, nil
}

// checkFields walks the tokens, because encoding/json takes a repeated field
// and one in other letters without a word.
func checkFields(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := checkObject(dec, data, reflect.TypeFor[Record]()); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%d: text after the end of the object", lineAt(data, dec.InputOffset()))
	}
	return nil
}

func checkObject(dec *json.Decoder, data []byte, t reflect.Type) error {
	tok, err := dec.Token()
	if err == nil && tok != json.Delim('{') {
		err = errors.New("expected an object")
	}
	if err != nil {
		return syntax(dec, data, err)
	}
	var seen []string
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return syntax(dec, data, err)
		}
		key, _ := tok.(string)
		field, known := fieldOf(t, key)
		if !known {
			return syntax(dec, data, fmt.Errorf("unknown field %q", key))
		}
		if slices.Contains(seen, key) {
			return syntax(dec, data, fmt.Errorf("field %q a second time", key))
		}
		seen = append(seen, key)
		if field == reflect.TypeFor[Network]() {
			err = checkObject(dec, data, field)
		} else {
			var skip json.RawMessage
			if err = dec.Decode(&skip); err != nil {
				err = syntax(dec, data, err)
			}
		}
		if err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return syntax(dec, data, err)
	}
	return nil
}

func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == key {
			return f.Type, true
		}
	}
	return nil, false
}

func syntax(dec *json.Decoder, data []byte, err error) error {
	at := dec.InputOffset()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends too early")
		at = int64(len(data))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = max(at, e.Offset)
	}
	return fmt.Errorf("%d: %w", lineAt(data, at), err)
}

func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

func lineOf(data []byte, text string) int {
	return lineAt(data, int64(max(0, bytes.Index(data, []byte(text)))))
}
