package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strconv"
	"strings"
)

// Decode reads one JSON value. Numbers keep all of their digits. The error
// holds nothing of the text, which may be a secret.
func Decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is more than one JSON value")
	}
	return v, nil
}

// mostDigits bounds numbers: a few characters, 1e999999999, can mean many.
const mostDigits = 400

// number is the exact value of a number.
func number(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok || len(n) > mostDigits {
		return nil, false
	}
	if i := strings.IndexAny(string(n), "eE"); i >= 0 {
		if e, err := strconv.Atoi(string(n[i+1:])); err != nil || e > mostDigits || e < -mostDigits {
			return nil, false
		}
	}
	return new(big.Rat).SetString(string(n))
}

// typeOf is the JSON type of a value; integer for whole numbers.
func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	if r, ok := number(v); ok && r.IsInt() {
		return "integer"
	}
	return "number"
}

// equal compares as JSON Schema does: numbers by their value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		other, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, okX := number(a)
		y, okY := number(other)
		if !okX || !okY {
			return a == other
		}
		return x.Cmp(y) == 0
	case []any:
		other, ok := b.([]any)
		if !ok || len(a) != len(other) {
			return false
		}
		for i := range a {
			if !equal(a[i], other[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		other, ok := b.(map[string]any)
		if !ok || len(a) != len(other) {
			return false
		}
		for k, v := range a {
			if w, ok := other[k]; !ok || !equal(v, w) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any, json.Number:
		return false
	}
	return a == b
}
