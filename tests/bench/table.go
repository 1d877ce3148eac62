package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// farOff is how far from its aim a row may be before the run fails.
const farOff = 5

// row is one line of the table.
type row struct {
	what       string
	ours, peer string // what was measured, for people
	value      float64
	unit       string // "x" is a ratio
	aim        float64
	least      bool    // the aim is a least, not a most
	bound      float64 // how far off it may be; 0 is farOff times the aim
	exact      bool    // no room beyond the aim
	told       bool    // there is no aim
}

// met reports whether the aim is.
func (r row) met() bool {
	if r.least {
		return r.value >= r.aim
	}
	return r.value <= r.aim
}

// bearable reports whether the row is near enough to its aim.
func (r row) bearable() bool {
	switch {
	case r.told:
		return true
	case r.exact:
		return r.met()
	case r.bound > 0:
		return r.value <= r.bound
	case r.least:
		return r.value >= r.aim/farOff
	}
	return r.value <= r.aim*farOff
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmk\tbeside it\tresult\taim\t")
	for _, r := range rows {
		bound, verdict := "at most", "missed"
		if r.least {
			bound = "at least"
		}
		if r.met() {
			verdict = "met"
		}
		if r.told {
			fmt.Fprintf(t, "%s\t%s\t%s\t%.3g %s\t-\t\n", r.what, r.ours, r.peer, r.value, r.unit)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.3g %s\t%s %g %s\t%s\n", r.what, r.ours, r.peer, r.value, r.unit, bound, r.aim, r.unit, verdict)
	}
	_ = t.Flush()
}

// judge fails for rows that are far from their aim.
func judge(rows []row) error {
	var errs []error
	for _, r := range rows {
		if !r.bearable() {
			errs = append(errs, fmt.Errorf("%s: %.3g %s is far from the aim, %g", r.what, r.value, r.unit, r.aim))
		}
	}
	return errors.Join(errs...)
}
