package schema

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var errUnknown = errors.New("mk does not know how to check this") //nolint:gochecknoglobals // an error

// word is a keyword of a schema: where it stands, and its value.
type word struct {
	c     *compiler
	place string
	value any
}

func (k word) schema() (*Schema, error) { return k.c.at(k.place, k.value) }

func (k word) list() ([]*Schema, error) {
	list, ok := k.value.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("must be a list of schemas")
	}
	out := make([]*Schema, len(list))
	var err error
	for i, v := range list {
		if out[i], err = k.c.at(k.place+"/"+strconv.Itoa(i), v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k word) named() (map[string]*Schema, error) {
	object, ok := k.value.(map[string]any)
	if !ok {
		return nil, errors.New("must be an object of schemas")
	}
	out := make(map[string]*Schema, len(object))
	var err error
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if out[name], err = k.c.at(k.place+"/"+escape(name), object[name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k word) patterns() ([]patterned, error) {
	all, err := k.named()
	if err != nil {
		return nil, err
	}
	var out []patterned
	for _, text := range slices.Sorted(maps.Keys(all)) {
		r, err := regexp.Compile(text)
		if err != nil {
			return nil, err
		}
		out = append(out, patterned{r, all[text]})
	}
	return out, nil
}

// reference follows a pointer into the document itself.
func (k word) reference() (*Schema, error) {
	text, ok := k.value.(string)
	pointer, inside := strings.CutPrefix(text, "#")
	if !ok || !inside {
		return nil, errors.New("a settings schema may only refer to itself")
	}
	pointer, err := url.PathUnescape(pointer)
	if err != nil {
		return nil, err
	}
	if pointer == "" {
		return k.c.at("#", k.c.root)
	}
	if !strings.HasPrefix(pointer, "/") {
		return nil, errUnknown // an anchor
	}
	v, place := k.c.root, "#"
	for element := range strings.SplitSeq(pointer[1:], "/") {
		name := strings.NewReplacer("~1", "/", "~0", "~").Replace(element)
		found := false
		switch t := v.(type) {
		case map[string]any:
			v, found = t[name]
		case []any:
			if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(t) && strconv.Itoa(i) == name {
				v, found = t[i], true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %.80q", text)
		}
		place += "/" + escape(name)
	}
	return k.c.at(place, v)
}

func (k word) types() ([]string, error) {
	list, err := []string(nil), error(nil)
	if one, ok := k.value.(string); ok {
		list = []string{one}
	} else if list, err = k.strings(k.value); err != nil || len(list) == 0 {
		return nil, errors.New("must be a type, or a list of types")
	}
	for _, t := range list {
		if !slices.Contains([]string{"null", "boolean", "object", "array", "number", "string", "integer"}, t) {
			return nil, fmt.Errorf("there is no type %.40q", t)
		}
	}
	return list, nil
}

func (k word) strings(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("must be a list of names")
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, errors.New("must be a list of names")
		}
		if slices.Contains(out[:i], out[i]) {
			return nil, fmt.Errorf("names %.80q twice", out[i])
		}
	}
	return out, nil
}

func (k word) lists() (map[string][]string, error) {
	object, ok := k.value.(map[string]any)
	if !ok {
		return nil, errors.New("must be an object of lists of names")
	}
	out := make(map[string][]string, len(object))
	var err error
	for name, v := range object {
		if out[name], err = k.strings(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k word) number() (*big.Rat, error) {
	r, ok := number(k.value)
	if !ok {
		return nil, errors.New("must be a number, of no more than a few hundred digits")
	}
	return r, nil
}

func (k word) positive() (*big.Rat, error) {
	r, err := k.number()
	if err == nil && r.Sign() <= 0 {
		err = errors.New("must be more than 0")
	}
	return r, err
}

func (k word) count() (*int, error) {
	r, ok := number(k.value)
	if !ok || !r.IsInt() || r.Sign() < 0 || !r.Num().IsInt64() {
		return nil, errors.New("must be a whole number, 0 or more")
	}
	n := int(r.Num().Int64())
	return &n, nil
}

func (k word) regexp() (*regexp.Regexp, error) {
	text, ok := k.value.(string)
	if !ok {
		return nil, errors.New("must be a regular expression")
	}
	return regexp.Compile(text)
}

// escape writes a name as an element of a pointer.
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
