package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"mk8s.io/mk/core/operation"
)

// showPlan prints what a dry run found out.
func (s *session) showPlan(p *operation.Plan) error {
	return s.show(p, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, l := range p.Changes {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Verb, l.Target, l.Effect, l.Why)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, step := range p.Then {
			fmt.Fprintf(w, "then  %s\n", step)
		}
		_, err := fmt.Fprintln(w, "dry run: nothing was changed")
		return err
	})
}
