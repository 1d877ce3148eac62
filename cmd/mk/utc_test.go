package main

import (
	"encoding/json"
	"testing"
	"time"
)

type inner struct {
	At     time.Time `json:"at"`
	hidden *time.Time
}

func TestTimesAreUTC(t *testing.T) {
	east := time.Date(2026, 11, 1, 8, 0, 0, 0, time.FixedZone("east", 9*3600))
	v := struct {
		inner
		P     *time.Time           `json:"p"`
		None  *time.Time           `json:"none"`
		Zero  time.Time            `json:"zero,omitzero"`
		List  []*inner             `json:"list"`
		Empty []inner              `json:"empty"`
		Nil   []inner              `json:"nil"`
		Map   map[string]time.Time `json:"map"`
		Raw   json.RawMessage      `json:"raw"`
	}{inner: inner{At: east, hidden: &east}, P: &east, List: []*inner{{At: east}, nil}, Empty: []inner{}, Map: map[string]time.Time{"a": east}, Raw: json.RawMessage(`"x"`)}
	got, err := json.Marshal(inUTC(v))
	const want = `{"at":"2026-10-31T23:00:00Z","p":"2026-10-31T23:00:00Z","none":null,"list":[{"at":"2026-10-31T23:00:00Z"},null],` +
		`"empty":[],"nil":null,"map":{"a":"2026-10-31T23:00:00Z"},"raw":"x"}`
	if err != nil || string(got) != want {
		t.Errorf("%s (%v)\nwant %s", got, err, want)
	}
	if v.List[0].At != east || *v.hidden != east {
		t.Error("the value was changed")
	}
	if inUTC(nil) != nil {
		t.Error("nothing became something")
	}
}
