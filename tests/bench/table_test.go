package main

import (
	"strings"
	"testing"
)

// A missed aim is said; one that is missed by far fails.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r             row
		met, bearable bool
	}{
		{row{value: 1.1, aim: 1.1}, true, true},
		{row{value: 1.2, aim: 1.1}, false, true},
		{row{value: 5.6, aim: 1.1}, false, false},
		{row{value: 31, aim: 30, least: true}, true, true},
		{row{value: 7, aim: 30, least: true}, false, true},
		{row{value: 5, aim: 30, least: true}, false, false},
		{row{value: 1, aim: 0, exact: true}, false, false},
		{row{value: 0, aim: 0, exact: true}, true, true},
	} {
		if c.r.met() != c.met || c.r.bearable() != c.bearable {
			t.Errorf("%+v: met %v, bearable %v", c.r, c.r.met(), c.r.bearable())
		}
		if err := judge([]row{c.r}); (err == nil) != c.bearable {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
	var b strings.Builder
	printTable(&b, []row{{what: "a start", ours: "2 s", peer: "1 s", value: 2, unit: "x", aim: 1.1}})
	if !strings.Contains(b.String(), "a start  2 s  1 s        2 x     at most 1.1 x  missed") {
		t.Errorf("%s", b.String())
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Error(m)
	}
	if m := median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Error(m)
	}
}
